"""Full configs of pre-training at toy size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from moca.backbone import PlainViT, vit_dimensions
from tests.configs.helpers import REPOSITORY
from tools.pretrain import configure, parse_args

NARROW = dict(
    decoder=dict(dim=32, depth=1, num_heads=2),
    projector=dict(hidden_dim=32, out_dim=16),
    bank_size=4,
)


def teacher_file(folder: Path, arch: dict[str, Any], size: int) -> str:
    """A file for MOMA to start from, with random weights."""
    path = folder.parent / f'teacher_{arch["patch_size"]}_{size}.pth'
    if not path.exists():
        vit = PlainViT(arch, img_size=size)
        vit.init_weights()
        torch.save(vit.state_dict(), path)
    return str(path)


def tiny(config: Path | str, images: Path, work_dir: Path, *options: str) -> Config:
    """The config of a command line, with its real masks and views but a narrow network."""
    arguments = [str(REPOSITORY / config), '--data-root', str(images)]
    cfg = configure(parse_args([*arguments, '--work-dir', str(work_dir), *options]))
    patch = vit_dimensions(cfg.model.backbone.arch).patch_size
    arch = dict(patch_size=patch, embed_dim=32, depth=6, num_heads=2)
    cfg.model.backbone.arch = arch
    for name in ('decoder', 'projector', 'bank_size'):
        if name in cfg.model:
            cfg.model[name] = NARROW[name]
    if cfg.model.type == 'MOCAPretrain':
        cfg.model.num_words, cfg.model.words_per_step = 64, 4  # of a batch of 4
    size = cfg.model.backbone.img_size
    for teacher in cfg.model.get('teachers', {}).values():
        teacher.update(arch=arch, checkpoint=teacher_file(work_dir, arch, size))
    if 'init_cfg' in cfg.model.backbone:
        cfg.model.backbone.init_cfg.checkpoint = teacher_file(work_dir, arch, size)
    cfg.train_dataloader.update(batch_size=4, num_workers=0, persistent_workers=False)
    cfg.train_cfg.max_epochs = 2
    cfg.default_hooks.schedule.warmup_epochs = 1
    return cfg
