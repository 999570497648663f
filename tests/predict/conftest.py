"""Folders of runs of each task: configs of the suite at toy size, with random weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from PIL import Image

import moca.evaluation.classification
import moca.transfer  # noqa: F401  (both register what configs name)
from tests.backbone.helpers import randomize
from tests.configs.helpers import REPOSITORY, shrink

CONFIGS = {
    'segmentation': 'segmentation/ade20k/linear-bn',
    'detection': 'detection/small-coco/mask-rcnn_sfp',
    'panoptic': 'detection/coco/eomt_panoptic',
    'depth': 'depth/nyu_linear',
    'image': 'imagenet/finetune_own-images',
    'mask transformer': 'segmentation/cityscapes/eomt',
    'sweep': 'imagenet/linear_own-images',
}


def edited(task: str) -> Config:
    """A config at toy size, whose model predicts something with random weights."""
    cfg = Config.fromfile(REPOSITORY / f'configs/{CONFIGS[task]}.py')
    if task in ('image', 'sweep'):
        arch = dict(patch_size=16, embed_dim=32, depth=1, num_heads=2)
        frozen = task == 'sweep'
        cfg.model.backbone = dict(type='PlainViT', arch=arch, img_size=32, frozen=frozen)
        cfg.model.head.num_classes = 6
        cfg.test_dataloader.dataset.size = 32
        if frozen:
            cfg.model.head.rates = [0.01, 0.1]
            cfg.model.feature = 'cls'
        return cfg
    shrink(cfg, 32 if task == 'mask transformer' else 8)
    if task == 'detection':
        cfg.model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=5)
    if task == 'panoptic':
        cfg.model.test_cfg.update(object_mask_thr=0.0, iou_thr=0.0)
    return cfg


def write_run(folder: Path, task: str, note: bool = True) -> Path:
    """A run's folder with config and checkpoint, which notes its config where that is wanted."""
    cfg = edited(task)
    cfg.model.backbone.interpolation = 'bicubic'  # as tools/train.py notes it
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
        model = MODELS.build(cfg.model)
    randomize(model)
    content: dict[str, Any] = dict(state_dict=model.state_dict())
    if note:
        meta: dict[str, Any] = dict(cfg=cfg.pretty_text)
        if task in ('image', 'sweep'):
            meta['dataset_meta'] = dict(classes=tuple('abcdef'))
        content['meta'] = meta
    torch.save(content, folder / 'iter_1.pth')
    cfg.dump(folder / f'{task.replace(" ", "_")}.py')
    return folder


@pytest.fixture(scope='session')
def run_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Make the folder of a task's run when it is first asked for."""
    made: dict[str, Path] = {}

    def run(task: str) -> Path:
        if task not in made:
            made[task] = write_run(tmp_path_factory.mktemp('runs') / task, task)
        return made[task]

    return run


@pytest.fixture(scope='session')
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of three sizes in two folders, one of them gray."""
    root = tmp_path_factory.mktemp('images')
    random = np.random.default_rng(0)
    for name, shape in (('a/0', (48, 64, 3)), ('a/1', (48, 64, 3)), ('b/0', (70, 40))):
        path = root / f'{name}.png'
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(random.integers(0, 255, shape, dtype=np.uint8)).save(path)
    return root
