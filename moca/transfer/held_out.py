"""A part of the training images held out for choosing settings, instead of the validation set."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import MODELS

from moca.data.config_datasets import leaf_datasets
from moca.errors import UserError
from moca.transfer.training_images import training_images

HELD_OUT = '_held_out'
"""What is added to a protocol's name."""


def set_held_out(cfg: Config, share: float) -> dict[str, Any]:
    """Apply ``--held-out``: validate on a share of the training images, and train on the others.

    The share is drawn once for all (seed 0), so that settings are compared on the same images. The
    run is then of another protocol, named after it, without published results.

    Args:
        cfg: of segmentation, depth or image classification, whose training set can be listed;
            changed in place.
        share: of the training images, between 0 and 1.

    Returns:
        What ``run.json`` says of it.

    Raises:
        UserError: if the share leaves no image on either side, or as `training_images`; or the
            protocol holds images out by itself.
    """
    kind = cfg.model.get('type')
    model: Any = MODELS.get(kind) if isinstance(kind, str) else kind
    if hasattr(model, 'set_held_out'):
        count, total = model.set_held_out(cfg, share)
    else:
        count, total = _hold_out_maps(cfg, share)
    cfg.protocol.update(
        name=cfg.protocol.name + HELD_OUT,
        title=f'{cfg.protocol.get("title", cfg.protocol.name)}, held-out',
        published=None,
    )
    print_log(f'--held-out: {count} of {total} training images validate.', 'current')
    return dict(share=share, images=count)


def _hold_out_maps(cfg: Config, share: float) -> tuple[int, int]:
    """Hold out images with label or depth maps; returns how many of how many."""
    images = training_images(cfg, f'--held-out {share:g}')
    train = images.dataset
    places = list(train.get('indices') or range(len(images.names)))
    count = round(len(places) * share)
    if not 0 < count < len(places):
        raise UserError(
            f'--held-out {share:g}: {count} of {len(places)} training images; give a share between '
            '0 and 1 that leaves some on both sides.'
        )
    order = np.random.RandomState(0).permutation(len(places))
    held, kept = (sorted(places[i] for i in part) for part in (order[:count], order[count:]))
    pipeline = leaf_datasets(cfg.val_dataloader.dataset)[0]['pipeline']
    validation = dict(copy.deepcopy(train), pipeline=copy.deepcopy(pipeline), indices=held)
    train['indices'] = kept
    cfg.val_dataloader.dataset = dict(validation, test_mode=True)
    return count, len(places)
