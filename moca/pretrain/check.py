"""What a pre-training cannot be, found before anything is built, logged or written."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, TRANSFORMS

from moca.engine.accumulate import world_size_of
from moca.pretrain.data import check_data_root
from moca.pretrain.schedules import check_views


def check_run(cfg: Config) -> None:
    """Check the method's fields, the folder, the views and the batch of a run.

    What depends on weights or on the number of pictures is seen when these are read.

    Args:
        cfg: Of the run, with ``launcher``.

    Raises:
        UserError: As the parts of the run would raise it later, beneath a log of the whole config.
    """
    try:
        with torch.device('meta'):
            method: Any = MODELS.build(cfg.model)
    except (NotImplementedError, RuntimeError):
        method = None  # somebody's that cannot be built without memory: the run itself will tell
    dataset, views = cfg.train_dataloader.dataset, None
    if dataset.type == 'UnlabelledPictures':
        check_data_root(dataset.data_root)
        views = TRANSFORMS.build(dataset.views)
    check_views(method, views)
    if hasattr(method, 'check_batch'):
        parts = cfg.optim_wrapper.get('accumulative_counts', 1)
        method.part = (0, parts)
        batch = cfg.train_dataloader.batch_size * world_size_of(cfg) * parts
        method.check_batch(batch, getattr(views, 'size', None))
