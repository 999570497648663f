"""Checks of data before anything is built: folders, pairs, annotation files, pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import mmdet.datasets
import mmseg.datasets
from mmengine.config import Config

from moca.transfer.coco_check import check_coco
from moca.transfer.overrides import leaf_datasets
from moca.transfer.pairs import check_pairs
from moca.transfer.protocol_check import asked_of, dataset_class

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
    for split in splits:
        loader = cfg.get(f'{split}_dataloader')
        for dataset in leaf_datasets(loader['dataset']) if loader else []:
            about = asked_of(dataset)
            if about in checked:
                continue
            checked.append(about)
            _check_dataset(cfg, dataset, f'{split}_dataloader.dataset')


def _check_dataset(cfg: Config, dataset: dict[str, Any], field: str) -> None:
    cls = dataset_class(dataset['type'], field, cfg.get('default_scope'))
    if issubclass(cls, mmseg.datasets.BaseSegDataset):
        check_pairs(dataset, field)
    elif issubclass(cls, mmdet.datasets.CocoDataset):
        check_coco(cfg, dataset, cls, field)
