"""Runs of every kind at a size that takes seconds, for what happens to runs."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmengine.config import Config

from tests.campaign.tool_runs import Moment, Start

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

    @property
    def is_queue(self) -> bool:
        """Whether the tool starts runs of another, whose work dirs have names of its own."""
        return self.tool == 'leaderboard'


def _dump(cfg: Config, folder: Path) -> str:
    cfg.default_hooks.checkpoint.update(_SAVING)
    cfg.default_hooks.logger.update(interval=1)
    path = folder / 'tiny.py'
    cfg.dump(str(path))
    return str(path)


def pretraining(
    method: str, shards: bool = False, workers: int = 0, count: int = 9
) -> Callable[[Path], Any]:
    """What writes a pre-training of a method, whose epochs are two steps of one process.

    Args:
        method: Its name in configs.
        shards: Pack the images into shards.
        workers: For loading.
        count: Images; a process has four of a step.
    """

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


def _queue(folder: Path) -> list[str]:
    config, _, data, *_ = _finetuning(folder)
    measured = ['--checkpoint', 'random', '--tasks', config, '--seeds', '1', '2']
    return ['run', *measured, '--data-root', f'{Path(config).stem}={data}']


KINDS = (
    *(Kind(method, 'pretrain', pretraining(method)) for method in METHODS),
    Kind('mae, with a worker', 'pretrain', pretraining('mae', workers=1)),
    Kind('moca from shards', 'pretrain', pretraining('moca', shards=True)),
    Kind('moca, two processes', 'pretrain', pretraining('moca', count=17), processes=2),
    Kind('linear probe', 'train', _transfer(PROBE, _cityscapes, 8), exact=False),
    Kind('EoMT', 'train', _transfer('segmentation/cityscapes/eomt.py', _cityscapes, 32)),
    Kind('Mask R-CNN', 'train', _transfer(DETECTOR, _own_coco, 8), exact=False),
    Kind('fine-tuning on images', 'train', _finetuning),
    Kind('a queue of two runs', 'leaderboard', _queue),
)


def run_folders(kind: Kind, folder: Path) -> list[Path]:
    """The work dirs that are there of a tool that ran in a folder."""
    if kind.is_queue:
        return sorted(path for path in folder.glob('work_dirs/*/*') if path.is_dir())
    return [folder / 'run']


def starts(
    kind: Kind,
    told: list[str],
    folder: Path,
    moments: Mapping[int, Moment] | None = None,
    **fields: Any,
) -> list[Start]:
    """A run of a kind, or its going on, by one process or by several that meet.

    Args:
        kind: Of run.
        told: What the tool is told beside its work dir.
        folder: Where it runs.
        moments: When processes get signals, by their numbers.
        fields: Of each `Start`.
    """
    moments = moments or {}
    work_dir = folder / 'run'
    if kind.is_queue:
        given = folder / 'work_dirs', folder / 'log0', moments.get(0)
        return [replace(Start(kind.tool, told, *given, directory=folder), **fields)]
    with socket.socket() as free:
        free.bind(('localhost', 0))
        port = str(free.getsockname()[1])
    arguments = [*told, '--work-dir', str(work_dir), '--resume']
    found = []
    for rank in range(kind.processes):
        launcher = {}
        if kind.processes > 1:
            launcher = dict(RANK=str(rank), LOCAL_RANK=str(rank), MASTER_ADDR='localhost')
            launcher |= dict(WORLD_SIZE=str(kind.processes), MASTER_PORT=port)
        start = Start(kind.tool, arguments, work_dir, folder / f'log{rank}', moments.get(rank))
        found.append(replace(start, environment=launcher, **fields))
        if launcher:
            found[-1].arguments = [*arguments, '--launcher', 'pytorch']
    return found
