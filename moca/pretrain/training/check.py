"""Validate a pre-training config before anything is written."""

from __future__ import annotations

import copy
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import HOOKS, MODELS, TRANSFORMS, DefaultScope

from moca.checkpoints.loading import check_checkpoint
from moca.engine.accumulate import world_size_of
from moca.engine.distributed import processes_here
from moca.engine.hooks import named_hooks
from moca.engine.ranges import check_count, check_weight
from moca.engine.shared_memory import check_shared_memory
from moca.errors import UserError
from moca.pretrain.data.sources import check_data_root
from moca.pretrain.training.float8_teacher import check_float8_teacher
from moca.pretrain.training.schedule import check_views

_READERS = ('KNNMonitor', 'InContextMonitor', 'PatchKNNMonitor')
"""Hooks that read their folders as they are made."""


def check_run(cfg: Config) -> None:
    """Check what a run is to start from: method, views, batch, folders and checkpoint.

    What depends on the number of images is seen when they have been listed.

    Args:
        cfg: Of the run, with ``launcher``.

    Raises:
        UserError: As the parts of the run would raise it later, beneath a log of the whole config.
    """
    check_method(cfg)
    check_float8_teacher(cfg)
    _check_shared_memory(cfg)
    if cfg.train_dataloader.dataset.type == 'UnlabeledImages':
        check_data_root(cfg.train_dataloader.dataset.data_root)
    for _, hook in named_hooks(cfg):
        if hook.get('type') in _READERS:
            HOOKS.build(hook)
    backbone = cfg.model.backbone
    start = backbone.get('init_cfg')
    if not isinstance(start, dict) or start.get('type') != 'ViTCheckpoint' or cfg.get('resume'):
        return
    how = {key: value for key, value in start.items() if key not in ('type', 'checkpoint')}
    if not start.get('checkpoint'):
        raise UserError('model.backbone.init_cfg has no checkpoint: give --checkpoint FILE.')
    check_checkpoint(start['checkpoint'], backbone.arch, img_size=backbone.get('img_size'), **how)


def _check_shared_memory(cfg: Config) -> None:
    dataset = cfg.train_dataloader.dataset
    if dataset.type == 'UnlabeledImages':
        views = TRANSFORMS.build(dataset.views)
        pixels = len(views.recipes) * 3 * views.size**2  # a byte each
        batch = pixels * cfg.train_dataloader.batch_size
        processes = processes_here(cfg.get('launcher', 'none'))
        check_shared_memory(batch, cfg.train_dataloader.get('num_workers', 0), processes)


def check_method(cfg: Config, processes: int | None = None, images: int | None = None) -> None:
    """Check a method's fields, its schedule, its views and its batch.

    The method is built without memory (on torch's ``meta`` device). One of somebody's that cannot
    be built so, or cannot look at a batch so, is left to the run itself.

    Args:
        cfg: Of a run.
        processes: That it will have; None for as many as its launcher has started.
        images: In its folder, where they have been counted.

    Raises:
        UserError: Naming the field.
    """
    at_once = check_count(cfg.train_dataloader.batch_size, 'train_dataloader.batch_size')
    parts = cfg.optim_wrapper.get('accumulative_counts', 1)
    check_count(parts, 'optim_wrapper.accumulative_counts')
    check_count(cfg.train_cfg.get('max_epochs', 1), 'train_cfg.max_epochs')
    optimizer = cfg.optim_wrapper.get('optimizer')
    if not isinstance(optimizer, dict):
        raise UserError(
            f"optim_wrapper.optimizer={optimizer!r}: give one, such as dict(type='AdamW')."
        )
    check_weight(optimizer.get('weight_decay', 0.0), 'optim_wrapper.optimizer.weight_decay')
    of_teacher = [
        HOOKS.build(hook)
        for _, hook in named_hooks(cfg)
        if hook.get('type') in ('PretrainSchedule', 'Float8Teacher')
    ]
    dataset = cfg.train_dataloader.dataset
    views = TRANSFORMS.build(dataset.views) if dataset.type == 'UnlabeledImages' else None
    scope = DefaultScope.overwrite_default_scope(cfg.get('default_scope'))
    try:
        with torch.device('meta'), scope:
            # of a copy: a method may take its own config apart
            method: Any = MODELS.build(copy.deepcopy(cfg.model))
        check_views(method, views)
        for hook in of_teacher:
            hook.check_teacher(method)
        if hasattr(method, 'num_images'):
            method.num_images = images
        if hasattr(method, 'check_batch'):
            method.part = (0, parts)
            batch = at_once * (world_size_of(cfg) if processes is None else processes) * parts
            method.check_batch(batch, getattr(views, 'size', None))
    except UserError:
        raise
    except Exception:  # whatever it needs that is not there yet
        return
