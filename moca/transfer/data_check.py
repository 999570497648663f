"""Checks of data before anything is built: folders, pairs, annotation files, pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import mmdet.datasets
import mmseg.datasets
from mmengine.config import Config

from moca.transfer.coco_check import check_coco
from moca.transfer.pairs import check_pairs
from moca.transfer.protocol_check import asked_of, datasets_of

# Where each launcher says which of its processes this is.
_RANKS = {'pytorch': 'RANK', 'slurm': 'SLURM_PROCID', 'mpi': 'OMPI_COMM_WORLD_RANK'}


def check_data(cfg: Config, splits: Sequence[str] = ('train', 'val')) -> None:
    """Check the data sets of a config: mmseg's of picture pairs and mmdet's of COCO format.

    Of several processes only the first looks: the launcher ends the others when it refuses.

    Args:
        cfg: a config with ``train_dataloader`` and so on.
        splits: which of train, val and test to check. A split that the config has not is skipped.

    Raises:
        UserError: naming the folder or file that is missing, empty, incomplete or broken, and what
            to do about it.
    """
    rank = _RANKS.get(cfg.get('launcher', 'none'))
    if rank and os.environ.get(rank, '0') != '0':
        return
    checked: list[dict[str, Any]] = []
    bases = (mmseg.datasets.BaseSegDataset, mmdet.datasets.CocoDataset)
    for field, dataset, cls in datasets_of(cfg, bases, splits):
        about = asked_of(dataset)
        if about in checked:
            continue
        checked.append(about)
        if issubclass(cls, mmseg.datasets.BaseSegDataset):
            check_pairs(dataset, field)
        else:
            check_coco(cfg, dataset, cls, field)
