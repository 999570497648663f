"""What a pre-training cannot be, found before anything is built, logged or written."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, TRANSFORMS

from moca.backbone.checkpoint import check_checkpoint
from moca.engine.accumulate import world_size_of
from moca.pretrain.data import check_data_root
from moca.pretrain.schedules import check_views


def check_run(cfg: Config) -> None:
    """Check what a run is to start from: method, views, batch, folder and checkpoint.

    What depends on the number of pictures is seen when they have been listed.

    Args:
        cfg: Of the run, with ``launcher``.

    Raises:
        UserError: As the parts of the run would raise it later, beneath a log of the whole config.
    """
    check_method(cfg)
    if cfg.train_dataloader.dataset.type == 'UnlabelledPictures':
        check_data_root(cfg.train_dataloader.dataset.data_root)
    backbone = cfg.model.backbone
    start = dict(backbone.get('init_cfg') or {})
    if start.pop('type', None) == 'ViTCheckpoint' and not cfg.get('resume'):
        path = start.pop('checkpoint')
        check_checkpoint(path, backbone.arch, img_size=backbone.get('img_size'), **start)


def check_method(cfg: Config, processes: int | None = None) -> None:
    """Check a method's fields, its views and its batch.

    Args:
        cfg: Of a run.
        processes: That it will have; None for as many as its launcher has started.

    Raises:
        UserError: Naming the field.
    """
    try:
        with torch.device('meta'):
            method: Any = MODELS.build(cfg.model)
    except (NotImplementedError, RuntimeError):
        return  # somebody's that cannot be built without memory: the run itself will tell
    dataset = cfg.train_dataloader.dataset
    views = TRANSFORMS.build(dataset.views) if dataset.type == 'UnlabelledPictures' else None
    check_views(method, views)
    if hasattr(method, 'check_batch'):
        parts = cfg.optim_wrapper.get('accumulative_counts', 1)
        method.part = (0, parts)
        batch = cfg.train_dataloader.batch_size * (processes or world_size_of(cfg)) * parts
        method.check_batch(batch, getattr(views, 'size', None))
