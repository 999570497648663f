"""Runs of every kind at a size that takes seconds, for what happens to runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

METHODS = ('mae', 'moca', 'can', 'macrl', 'moma')
STEPS, EVERY = 6, 2
"""Steps of a run, and after how many a checkpoint is written."""

PROBE = 'segmentation/driving/linear-bn.py'
DETECTOR = 'detection/own-coco/mask-rcnn_sfp.py'

_SAVING = dict(by_epoch=False, interval=EVERY, max_keep_ckpts=2)


@dataclass(frozen=True)
class Kind:
    """A kind of run.

    Attributes:
        name: To be read.
        tool: That it is a run of.
        write: Writes data and a config into a folder; returns what the tool is to be told.
        processes: How many.
        exact: Whether one that goes on ends bit for bit like one that was never interrupted. Probes
            and detectors go on from the same weights over the same images, but draw other crops.
    """

    name: str
    tool: str
    write: Callable[[Path], list[str]]
    processes: int = 1
    exact: bool = True


def _dump(cfg: Config, folder: Path) -> str:
    cfg.default_hooks.checkpoint.update(_SAVING)
    cfg.default_hooks.logger.update(interval=1)
    path = folder / 'tiny.py'
    cfg.dump(str(path))
    return str(path)


def _pretraining(
    method: str, shards: bool = False, workers: int = 0, count: int = 9
) -> Callable[[Path], Any]:
    def write(folder: Path) -> list[str]:
        from tests.configs.helpers import REPOSITORY
        from tests.configs.pretraining import NARROW, teacher_file
        from tests.images.photographs import save_photographs
        from tests.pretrain.data.shards.tars import contents, write_split

        images = folder / 'images'
        save_photographs(images, count=count)
        if shards:
            write_split(folder / 'shards', contents(images), [4, 2, 3])
            images = folder / 'shards'
        cfg = Config.fromfile(str(REPOSITORY / f'configs/pretrain/{method}_cifar.py'))
        arch = dict(patch_size=4, embed_dim=32, depth=4, num_heads=2)
        cfg.model.backbone.arch = arch
        for name in ('decoder', 'projector', 'bank_size'):
            if name in cfg.model:
                cfg.model[name] = NARROW[name]
        if method == 'moca':
            cfg.model.update(num_words=64, words_per_step=4, early_layer=2, skip_offset=1)
        for teacher in cfg.model.get('teachers', {}).values():
            teacher.update(arch=arch, checkpoint=teacher_file(images, arch, 32))
        if 'init_cfg' in cfg.model.backbone:
            cfg.model.backbone.init_cfg.checkpoint = teacher_file(images, arch, 32)
        cfg.train_dataloader.update(batch_size=4, num_workers=workers, persistent_workers=False)
        # three epochs of two steps
        cfg.train_cfg.max_epochs = STEPS // 2
        cfg.default_hooks.schedule.warmup_epochs = 1
        return [_dump(cfg, folder), '--data-root', str(images), '--seed', '1', '--no-amp']

    return write


def _transfer(config: str, data: Callable[[Path], Path], factor: int) -> Callable[[Path], Any]:
    def write(folder: Path) -> list[str]:
        from moca.engine.cli import read_config
        from tests.configs.helpers import REPOSITORY, shrink

        root = data(folder / 'data')
        cfg = shrink(read_config(REPOSITORY / 'configs' / config), factor)
        cfg.train_cfg.update(max_iters=STEPS, val_interval=3)
        if 'annealing' in cfg.default_hooks:  # of mask transformers, with its schedule
            cfg.param_scheduler[0].update(warmup=(1, 2), end=STEPS)
            cfg.default_hooks.annealing.update(starts=[0, 1, 2], ends=[3, 4, 5], total=None)
        return [_dump(cfg, folder), '--data-root', str(root), '--seed', '1']

    return write


def _cityscapes(folder: Path) -> Path:
    from tests.configs.helpers import write_cityscapes

    return write_cityscapes(folder)


def _own_coco(folder: Path) -> Path:
    from tests.detection import own_coco

    return own_coco.write(folder)


def _finetuning(folder: Path) -> list[str]:
    from tests.configs.image_helpers import tiny_config
    from tests.evaluation.image_data import write_images

    for seed, (split, count) in enumerate((('train', 8), ('val', 2))):
        write_images(
            folder / 'data' / split, dict.fromkeys(('ant', 'bee', 'cow', 'dog'), count), seed
        )
    cfg = Config.fromfile(str(tiny_config('finetune', folder)))
    # three epochs of two steps
    cfg.train_cfg.max_epochs = STEPS // 2
    cfg.default_hooks.schedule.warmup_epochs = 1
    return [_dump(cfg, folder), '--data-root', str(folder / 'data'), '--seed', '1']


KINDS = (
    *(Kind(method, 'pretrain', _pretraining(method)) for method in METHODS),
    Kind('mae, with a worker', 'pretrain', _pretraining('mae', workers=1)),
    Kind('moca from shards', 'pretrain', _pretraining('moca', shards=True)),
    Kind('moca, two processes', 'pretrain', _pretraining('moca', count=17), processes=2),
    Kind('linear probe', 'train', _transfer(PROBE, _cityscapes, 8), exact=False),
    Kind('EoMT', 'train', _transfer('segmentation/cityscapes/eomt.py', _cityscapes, 32)),
    Kind('Mask R-CNN', 'train', _transfer(DETECTOR, _own_coco, 8), exact=False),
    Kind('fine-tuning on images', 'train', _finetuning),
)
