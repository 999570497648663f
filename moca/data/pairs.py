"""The images and label maps of a mmseg data set, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mmseg.registry
import numpy as np

from moca.data.config_datasets import nested_dicts
from moca.errors import UserError
from moca.images.files import (
    dataset_path,
    evenly_spread,
    require_files,
    require_folder,
    require_whole,
)
from moca.segmentation.label_maps import IGNORE, LabelFault, LabelRule, header_fault, read_values

DECODED = 32  # label maps of a split that are decoded before a run
_THREADS = 8


@dataclass(frozen=True)
class Pairs:
    """A data set's images and label maps, as mmseg lists them.

    Attributes:
        images, labels: one each, in mmseg's order.
        source: where their names come from.
        suffix, label_suffix: what the names of images and label maps end in.
        label_folder: where the label maps lie.
        rule: what the label maps may hold; None if another transform than ours loads them.
        names, palette: of the classes.
    """

    images: list[Path]
    labels: list[Path]
    source: Path
    suffix: str
    label_folder: Path
    label_suffix: str
    rule: LabelRule | None
    names: Sequence[str]
    palette: Sequence[Sequence[int]]


def find_pairs(dataset: dict[str, Any], field: str) -> Pairs:
    """List a data set's pairs, by the data set's own class; whether the files exist is not checked.

    Args:
        dataset: its config, after `check_protocol`.
        field: what to call it in messages.

    Raises:
        UserError: if a folder is missing or empty, or there is no image of the right name.
    """
    source = require_folder(dataset, 'img_path', field)
    label_folder = require_folder(dataset, 'seg_map_path', field)
    if dataset.get('ann_file'):
        source = dataset_path(dataset, dataset['ann_file'])
        if not source.is_file():
            raise UserError(f'{source}: no such file ({field}.ann_file).')
    options = {key: value for key, value in dataset.items() if key != 'indices'}
    built = mmseg.registry.DATASETS.build({**options, 'pipeline': [], 'lazy_init': True})
    entries = built.load_data_list()
    if not entries:
        raise UserError(
            f'{source}: no images. {field} reads files whose names end in '
            f'{built.img_suffix!r}; check --data-root and img_suffix.'
        )
    return Pairs(
        images=[Path(entry['img_path']) for entry in entries],
        labels=[Path(entry['seg_map_path']) for entry in entries],
        source=source,
        suffix=built.img_suffix,
        label_folder=label_folder,
        label_suffix=built.seg_map_suffix,
        rule=_rule(dataset, built),
        names=list(built.metainfo['classes']),
        palette=list(built.metainfo['palette']),
    )


def _rule(dataset: dict[str, Any], built: Any) -> LabelRule | None:
    for step in nested_dicts(dataset.get('pipeline')):
        if step.get('type') not in ('LoadAnnotations', 'LoadCheckedAnnotations'):
            continue
        if 'imdecode_backend' in step:  # tifffile and OpenCV read files that Pillow does not
            break
        known = dict(num_classes=len(built.metainfo['classes']))
        transform = mmseg.registry.TRANSFORMS.build(
            {**known, **step, 'type': 'LoadCheckedAnnotations'}
        )
        rule: LabelRule = transform.rule(
            dict(reduce_zero_label=built.reduce_zero_label, label_map=built.label_map)
        )
        return rule
    return None


def check_pairs(dataset: dict[str, Any], field: str) -> None:
    """Check that every image has a label map of its size, and what some of them hold.

    All files are looked at, of which `DECODED` label maps, evenly spread, are decoded; the others
    are checked as they are loaded.

    Raises:
        UserError: naming the first file that is missing, broken or wrong.
    """
    pairs = find_pairs(dataset, field)
    require_files(pairs.images, f'listed in {pairs.source}')
    hint = missing_label_hint(pairs.labels, dataset)
    require_files(pairs.labels, f'the label maps of {pairs.source}', hint)
    require_whole([*pairs.images, *pairs.labels])
    if pairs.rule is None:
        return
    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(header_fault, pairs.labels, pairs.images, chunksize=64))
        _require_right(pairs.labels, found)
        chosen = [pairs.labels[i] for i in evenly_spread(len(pairs.labels), DECODED)]
        counted = list(pool.map(lambda path: count_classes(path, pairs.rule), chosen))
    _require_right(chosen, [result if isinstance(result, str) else None for result in counted])
    counts = np.sum([result for result in counted if not isinstance(result, str)], axis=0)
    if not counts[:IGNORE].any():
        raise UserError(
            f'{chosen[0]}: every pixel is ignored ({IGNORE}), in this and all {len(chosen)} label '
            'maps looked at: there is nothing to learn. Check how they were converted.'
        )


def _require_right(paths: Sequence[Path], faults: Iterable[str | None]) -> None:
    wrong = [(path, fault) for path, fault in zip(paths, faults, strict=True) if fault]
    if wrong:
        path, fault = wrong[0]
        raise UserError(f'{path}: {fault}. So {len(wrong)} of {len(paths)} label maps looked at.')


def count_classes(path: Path, rule: LabelRule | None) -> Any:
    """Pixels of each class in a label map, int64 `[256]`, or what is wrong with it as text."""
    try:
        values = read_values(path)
        labels = values if rule is None else rule.convert(values)
    except LabelFault as fault:
        return str(fault)
    return np.bincount(labels.ravel(), minlength=256)


def missing_label_hint(labels: Iterable[Path], dataset: dict[str, Any]) -> str:
    """What to do about label maps that are missing."""
    for label in labels:
        raw = label.with_name(label.name.replace('_labelTrainIds', '_labelIds'))
        if raw != label and not label.is_file() and raw.is_file():
            return (
                ' There are labelIds maps, which have to be converted to the 19 training classes: '
                f'tools/prepare_data.py cityscapes {dataset.get("data_root")}'
            )
    return ' Check seg_map_suffix and that the download is complete.'
