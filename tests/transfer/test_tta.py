"""Test-time augmentation against the same written out: resize, flip, predict, average."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from torch import Tensor

from moca.errors import UserError
from moca.transfer.evaluate import load_run
from moca.transfer.overrides import set_data_root
from moca.transfer.tta import set_tta
from tests.backbone.helpers import randomize
from tests.configs.helpers import REPOSITORY, shrink, write_ade20k

CONFIG = REPOSITORY / 'configs/segmentation/ade20k/linear-bn.py'


@pytest.fixture(scope='module')
def ade20k(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ade20k(tmp_path_factory.mktemp('ade20k'))


@pytest.fixture
def cfg(ade20k: Path) -> Config:
    """The probe with windows of 64 pixels, on images of 96 x 64."""
    cfg = Config.fromfile(CONFIG)
    set_data_root(cfg, ade20k)
    init_default_scope('mmseg')
    return shrink(cfg)


@torch.no_grad()
def predictions(cfg: Config, weights: Path | None = None) -> tuple[Any, list[Tensor]]:
    """The model of a config, and the class of each pixel of every test image."""
    model = MODELS.build(cfg.model)
    if weights:
        load_run(model, weights)
    else:
        randomize(model)
    loader = Runner.build_dataloader(cfg.test_dataloader)
    found = [sample for batch in loader for sample in model.eval().test_step(batch)]
    for sample in found:
        assert sample.gt_sem_seg.data.shape[-2:] == (64, 96)
    return model, [sample.pred_sem_seg.data.squeeze(0) for sample in found]


@torch.no_grad()
def written_out(model: Any, root: Path, sizes: list[tuple[int, int]]) -> list[Tensor]:
    """Classes by averaged probabilities over sizes (width, height), each as it is and mirrored."""
    found = []
    for path in sorted((root / 'images/validation').glob('*.jpg')):
        image = cv2.imread(str(path))
        total = torch.zeros(150, 64, 96)
        for size in sizes:
            resized = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
            for mirror in (False, True):
                seen = np.ascontiguousarray(resized[:, ::-1] if mirror else resized)
                data = dict(inputs=[torch.from_numpy(seen).permute(2, 0, 1)], data_samples=None)
                inputs = model.data_preprocessor(data)['inputs']
                logits = model.slide_inference(inputs, [dict(img_shape=None)])
                logits = logits.flip(3) if mirror else logits
                total += F.interpolate(logits, (64, 96), mode='bilinear')[0].softmax(0)
        found.append(total.argmax(0))
    return found


def test_scales_and_flips(cfg: Config, ade20k: Path, tmp_path: Path) -> None:
    plain, without = predictions(cfg)
    torch.save(dict(state_dict=plain.state_dict()), tmp_path / 'run.pth')
    cfg.tta.ratios = [0.5, 1.0, 1.25]
    set_tta(cfg)
    _, found = predictions(cfg, tmp_path / 'run.pth')
    # half would be 32 pixels, less than the window of 64
    expected = written_out(plain, ade20k, [(96, 64), (96, 64), (120, 80)])
    for one, other, single in zip(found, expected, without, strict=True):
        assert (one == other).float().mean() > 0.999
        assert (one == single).float().mean() < 0.99  # it does something
    # without flips it is something else again
    cfg.test_dataloader.dataset.pipeline[1].transforms[1].pop()
    _, unflipped = predictions(cfg, tmp_path / 'run.pth')
    assert (unflipped[0] == found[0]).float().mean() < 0.999


def test_one_scale_without_flip_changes_nothing(cfg: Config) -> None:
    _, expected = predictions(cfg)
    cfg.tta.update(ratios=[1.0], flip=False)
    set_tta(cfg)
    _, found = predictions(cfg)
    assert len(expected) == 2
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


def test_the_published_ratios(cfg: Config) -> None:
    resize = cfg.test_dataloader.dataset.pipeline[1]
    assert resize.scale == (256, 64)
    set_tta(cfg)
    sizes, flips, labels, _ = cfg.test_dataloader.dataset.pipeline[1].transforms
    # the short side of the window is that of the images: nothing below it
    assert [size.scale for size in sizes] == [(256, 64)] * 3 + [(320, 80), (384, 96), (448, 112)]
    assert [flip.prob for flip in flips] == [0, 1]
    assert labels[0].type == 'LoadAnnotations'


def test_whole_images_shrink(cfg: Config) -> None:
    cfg.model.test_cfg = dict(mode='whole')
    set_tta(cfg)
    sizes = cfg.test_dataloader.dataset.pipeline[1].transforms[0]
    assert [size.scale for size in sizes[:3]] == [(128, 32), (192, 48), (256, 64)]


@pytest.mark.parametrize(
    ('change', 'named'),
    [
        (lambda cfg: cfg.pop('tta'), '_base_/tta.py'),
        (lambda cfg: cfg.tta.update(ratios=[]), 'ratios above 0'),
        (lambda cfg: cfg.tta.update(ratios=[0.0]), 'ratios above 0'),
        (lambda cfg: cfg.tta.update(scales=[1]), 'ratios'),
        (lambda cfg: cfg.test_dataloader.dataset.pipeline.pop(1), 'Resize'),
        (lambda cfg: cfg.test_dataloader.dataset.pipeline.insert(3, resize_last(cfg)), 'after it'),
    ],
)
def test_what_cannot_be_augmented_is_refused(cfg: Config, change: Any, named: str) -> None:
    change(cfg)
    with pytest.raises(UserError, match=named):
        set_tta(cfg)


def resize_last(cfg: Config) -> Any:
    return cfg.test_dataloader.dataset.pipeline.pop(1)
