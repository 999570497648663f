"""Few-shot training: a subset of the training pictures, drawn by the published rule."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.logging import print_log

from moca.errors import UserError
from moca.transfer.overrides import leaf_datasets
from moca.transfer.pairs import find_pairs
from moca.transfer.recipe import shorten

FOLDS = (12345, 23456, 34567, 45678, 56789)
"""Seeds of the published subsets of Cityscapes (Britefury/cutmix-semisup-seg,
run_cityscapes_experiments.sh)."""


def draw_subset(total: int, count: int, fold: int) -> list[int]:
    """The first `count` places of the published random order of `total` sorted pictures.

    Source: Britefury/cutmix-semisup-seg, datapipe/datasets.py: ``split_rng.permutation``.
    """
    order = np.random.RandomState(FOLDS[fold]).permutation(total)
    return [int(place) for place in order[:count]]


def set_subset(cfg: Config, count: int, seed: int | None) -> dict[str, Any]:
    """Train on `count` pictures for as many epochs as the recipe trains on all of them.

    Seed k of a run takes the published subset k modulo 5: the seeds 0 to 4 measure the mean and
    deviation over the five subsets. That the number of epochs stays is a choice of ours, since
    MOCA's few-shot schedule is not known.

    Args:
        cfg: a segmentation config whose training set can be listed; changed in place.
        count: of pictures.
        seed: of the run.

    Returns:
        What ``run.json`` says of it.

    Raises:
        UserError: if there are not so many pictures, or they are not of a single data set of mmseg.
    """
    datasets = leaf_datasets(cfg.train_dataloader.dataset)
    if cfg.protocol.task != 'segmentation' or len(datasets) != 1 or datasets[0].get('indices'):
        raise UserError(
            f'--subset {count}: draws from one whole segmentation data set; '
            f'{cfg.filename} has another kind of training data.'
        )
    pairs = find_pairs(datasets[0], 'train_dataloader.dataset')
    total = len(pairs.images)
    if not 1 <= count <= total:
        raise UserError(f'--subset {count}: there are {total} training pictures in {pairs.source}.')
    fold = (seed or 0) % len(FOLDS)
    # the rule draws from sorted names without their suffix; a list in a file may be in any order
    names = [str(path).removesuffix(pairs.suffix) for path in pairs.images]
    places = sorted(range(total), key=lambda place: names[place])
    datasets[0]['indices'] = [places[place] for place in draw_subset(total, count, fold)]
    shorten(cfg, count / total)
    if count < total:
        cfg.protocol.published = (cfg.protocol.get('few_shot') or {}).get(str(count))
    print_log(
        f'--subset: {count} of {total} pictures, fold {fold} (seed {FOLDS[fold]}); '
        f'{cfg.train_cfg.max_iters} iterations.',
        'current',
    )
    return dict(images=count, fold=fold)
