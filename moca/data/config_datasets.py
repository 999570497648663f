"""The data sets that a downstream config names: found, told apart, and their classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import mmdet.registry
import mmseg.datasets
import mmseg.registry
from mmengine.config import Config

from moca.errors import UserError

SPLITS = ('train', 'val', 'test')


def datasets_of(
    cfg: Config, base: type | tuple[type, ...], splits: Sequence[str] = SPLITS
) -> Iterator[tuple[str, dict[str, Any], type]]:
    """Yield (field, config, class) of every data set of the data loaders that is of a class."""
    for split in splits:
        loader = cfg.get(f'{split}_dataloader')
        for dataset in leaf_datasets(loader['dataset']) if loader else []:
            field = f'{split}_dataloader.dataset'
            cls = dataset_class(dataset['type'], field, cfg.get('default_scope'))
            if issubclass(cls, base):
                yield field, dataset, cls


def dataset_key(dataset: dict[str, Any]) -> dict[str, Any]:
    """What the answer of a check of a data set's files depends on, of its config.

    The same files may be good for training and not for evaluation, or for other classes.
    """
    fields = (
        *('type', 'data_root', 'ann_file', 'metainfo', 'reduce_zero_label'),
        *('img_suffix', 'seg_map_suffix'),
    )
    folders = {k: str(Path(v)) for k, v in (dataset.get('data_prefix') or {}).items() if v}
    asked = {field: dataset.get(field) for field in fields}
    steps = nested_dicts(dataset.get('pipeline'))
    asked['labels'] = [s for s in steps if str(s.get('type')).endswith('LoadCheckedAnnotations')]
    return {**asked, 'data_prefix': folders, 'test_mode': bool(dataset.get('test_mode'))}


def segmentation_datasets(cfg: Config) -> Iterator[tuple[str, dict[str, Any], type]]:
    """Yield (field, config, class) of the data loaders' mmseg data sets of label maps."""
    for found in datasets_of(cfg, mmseg.datasets.BaseSegDataset):
        if not issubclass(found[2], mmseg.datasets.NYUDataset):
            yield found


def depth_datasets(cfg: Config) -> Iterator[tuple[str, dict[str, Any], type]]:
    """Yield (field, config, class) of the data loaders' mmseg data sets of depth maps."""
    return datasets_of(cfg, mmseg.datasets.NYUDataset)


def dataset_class(name: str | type, field: str, scope: str | None = None) -> type:
    """Find the class of a data set.

    Args:
        name: of the class, perhaps behind its scope and a dot.
        field: what to call it in messages.
        scope: ``default_scope`` of the config: both libraries have a `CityscapesDataset`.

    Raises:
        UserError: if neither mmseg nor mmdet, nor anything imported, has it.
    """
    cls: Any = name
    if not isinstance(name, type):
        prefix, _, bare = name.rpartition('.')
        libraries = [mmseg.registry.DATASETS, mmdet.registry.DATASETS]
        if (prefix or scope) == 'mmdet':
            libraries.reverse()
        cls = libraries[0].get(bare) or libraries[1].get(bare)
    if cls is None:
        raise UserError(f'{field}: neither mmseg nor mmdet has a data set {name!r}.')
    return cls


def leaf_datasets(dataset: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the data sets inside wrappers such as `RepeatDataset`, or the one itself."""
    inner = dataset.get('dataset') or dataset.get('datasets')
    if inner is None:
        return [dataset]
    inner = inner if isinstance(inner, list | tuple) else [inner]
    return [leaf for node in inner for leaf in leaf_datasets(node)]


def nested_dicts(node: Any) -> list[dict[str, Any]]:
    """Return every dict in a nested config, outer ones first."""
    if isinstance(node, dict):
        return [node, *(inner for value in node.values() for inner in nested_dicts(value))]
    if isinstance(node, list | tuple):
        return [inner for value in node for inner in nested_dicts(value)]
    return []
