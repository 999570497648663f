"""Checks of data before anything is built: folders, pairs, annotation files, pictures."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import mmdet.datasets
import mmseg.datasets
from mmengine.config import Config

from moca.errors import UserError
from moca.transfer.files import SHOWN, dataset_path, require_files, require_folder, require_whole
from moca.transfer.overrides import leaf_datasets
from moca.transfer.pairs import check_pairs
from moca.transfer.protocol_check import dataset_class

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
            paths = {key: dataset.get(key) for key in ('data_root', 'data_prefix', 'ann_file')}
            if paths in checked:
                continue
            checked.append(paths)
            _check_dataset(dataset, f'{split}_dataloader.dataset')


def _check_dataset(dataset: dict[str, Any], field: str) -> None:
    cls = dataset_class(dataset['type'], field)
    if issubclass(cls, mmseg.datasets.BaseSegDataset):
        check_pairs(dataset, field)
    elif issubclass(cls, mmdet.datasets.CocoDataset):
        _check_coco(dataset, cls, field)


def _check_coco(dataset: dict[str, Any], cls: Any, field: str) -> None:
    image_dir = require_folder(dataset, 'img', field)
    path = dataset_path(dataset, dataset['ann_file'])
    if not path.is_file():
        raise UserError(f'{path}: no such annotation file ({field}.ann_file).')
    try:
        content = json.loads(path.read_bytes())
        images = [image_dir / image['file_name'] for image in content['images']]
        categories = [category['name'] for category in content['categories']]
        annotations = content['annotations']
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f'{path}: not a COCO instances file ({type(error).__name__}: {error}). It needs '
            "'images' with file_name, 'annotations' and 'categories' with name."
        ) from error
    if not images or not annotations:
        raise UserError(f'{path}: {len(images)} images and {len(annotations)} annotations.')
    classes = (dataset.get('metainfo') or {}).get('classes') or cls.METAINFO.get('classes') or ()
    classes = [classes] if isinstance(classes, str) else classes
    absent = [name for name in classes if name not in categories]
    if absent:
        # mmdet numbers the classes that it finds, so that one that is absent shifts the others.
        raise UserError(
            f'{path}: has no category {absent[0]!r} ({len(absent)} of {len(classes)} classes of '
            f'{field} are absent). It has {categories[:SHOWN]} ...; set metainfo.classes '
            'and the num_classes of the heads to the classes of the file.'
        )
    require_files(images, f'listed in {path}')
    require_whole(images)
