"""Checks of data before anything is built: folders, pairs, annotation files, pictures."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import mmdet.datasets
import mmdet.registry
import mmseg.datasets
import mmseg.registry
from mmengine.config import Config

from moca.errors import UserError
from moca.transfer.overrides import leaf_datasets
from moca.transfer.pictures import broken_pictures

_SHOWN = 3  # files named in an error

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
            _check_dataset(dataset, f'{split}_dataloader')


def _check_dataset(dataset: dict[str, Any], field: str) -> None:
    cls = _dataset_class(dataset['type'])
    if cls is None:
        raise UserError(f'{field}: neither mmseg nor mmdet has a data set {dataset["type"]!r}.')
    if issubclass(cls, mmseg.datasets.BaseSegDataset):
        _check_pairs(dataset, cls, field)
    elif issubclass(cls, mmdet.datasets.CocoDataset):
        _check_coco(dataset, cls, field)


def _dataset_class(name: str | type) -> type | None:
    if isinstance(name, type):
        return name
    name = name.split('.')[-1]
    return mmseg.registry.DATASETS.get(name) or mmdet.registry.DATASETS.get(name)


# ---------------------------------------------------------------- mmseg: pictures and label maps


def _check_pairs(dataset: dict[str, Any], cls: type, field: str) -> None:
    defaults = inspect.signature(cls).parameters
    base = inspect.signature(mmseg.datasets.BaseSegDataset).parameters

    def option(name: str) -> Any:
        return dataset.get(name, (defaults.get(name) or base[name]).default)

    image_dir = _folder(dataset, 'img_path', field)
    label_dir = _folder(dataset, 'seg_map_path', field)
    image_suffix, label_suffix = option('img_suffix'), option('seg_map_suffix')
    if dataset.get('ann_file'):
        listing = _path(dataset, dataset['ann_file'])
        if not listing.is_file():
            raise UserError(f'{listing}: no such file ({field}.dataset.ann_file).')
        names = [line.strip() for line in listing.read_text().splitlines() if line.strip()]
        source = listing
    else:
        files = sorted(image_dir.rglob(f'*{image_suffix}'))
        names = [str(path.relative_to(image_dir))[: -len(image_suffix)] for path in files]
        source = image_dir
    if not names:
        raise UserError(
            f'{source}: no pictures. {field} reads files whose names end in {image_suffix!r}; '
            'check --data-root and img_suffix.'
        )
    images = [image_dir / (name + image_suffix) for name in names]
    labels = [label_dir / (name + label_suffix) for name in names]
    _require_files(images, f'listed in {source}')
    _require_files(labels, f'the label maps of {image_dir}', _label_hint(labels, dataset))
    _require_whole([*images, *labels])


def _label_hint(labels: Iterable[Path], dataset: dict[str, Any]) -> str:
    for label in labels:
        raw = label.with_name(label.name.replace('_labelTrainIds', '_labelIds'))
        if raw != label and raw.is_file() and not label.is_file():
            return (
                ' There are labelIds maps, which have to be converted to the 19 training classes: '
                'pip install cityscapesscripts; '
                f'CITYSCAPES_DATASET={dataset.get("data_root")} csCreateTrainIdLabelImgs'
            )
    return ' Check seg_map_suffix and that the download is complete.'


# ---------------------------------------------------------------- mmdet: COCO format


def _check_coco(dataset: dict[str, Any], cls: Any, field: str) -> None:
    image_dir = _folder(dataset, 'img', field)
    path = _path(dataset, dataset['ann_file'])
    if not path.is_file():
        raise UserError(f'{path}: no such annotation file ({field}.dataset.ann_file).')
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
            f'{field} are absent). It has {categories[:_SHOWN]} ...; set dataset.metainfo.classes '
            'and the num_classes of the heads to the classes of the file.'
        )
    _require_files(images, f'listed in {path}')
    _require_whole(images)


# ---------------------------------------------------------------- both


def _path(dataset: dict[str, Any], path: str) -> Path:
    return Path(dataset.get('data_root') or '') / path


def _folder(dataset: dict[str, Any], key: str, field: str) -> Path:
    folder = _path(dataset, (dataset.get('data_prefix') or {}).get(key) or '')
    if not folder.is_dir():
        raise UserError(
            f'{folder}: no such folder ({field}.dataset.data_prefix.{key}). '
            'Give the folder that holds the data with --data-root.'
        )
    if not any(folder.iterdir()):
        raise UserError(f'{folder}: the folder is empty ({field}.dataset.data_prefix.{key}).')
    return folder


def _require_files(paths: Sequence[Path], what: str, hint: str = '') -> None:
    missing = [path for path in paths if not path.is_file()]
    if missing:
        names = ', '.join(map(str, missing[:_SHOWN]))
        raise UserError(f'{len(missing)} of {len(paths)} files are missing, {what}: {names}.{hint}')


def _require_whole(paths: Sequence[Path]) -> None:
    broken = broken_pictures(paths)
    if broken:
        path, reason = broken[0]
        raise UserError(
            f'{path}: a broken picture ({reason}); {len(broken)} of {len(paths)} files. '
            'Fetch it again, or leave it out.'
        )
