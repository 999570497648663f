"""The images and label maps of a mmseg data set, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mmseg.registry

from moca.data.classes import class_names
from moca.data.config_datasets import dataset_class, nested_dicts
from moca.data.name_lists import check_names
from moca.errors import UserError
from moca.images.files import (
    dataset_path,
    require_folder,
    require_pairs_taken,
    unused_images,
)
from moca.images.listing import list_folder
from moca.segmentation.label_maps import LabelRule

_NO_IMAGES = ('.npy', '.npz', '.mat', '.json', '.xml', '.txt')  # what else labels come in


@dataclass(frozen=True)
class Pairs:
    """A data set's images and label maps, as mmseg lists them.

    Attributes:
        images, labels: one each, in mmseg's order; no labels where the data set has none.
        source: where their names come from.
        folder: where the images lie.
        suffix, label_suffix: what the names of images and label maps end in.
        label_folder: where the label maps lie; None without label maps.
        rule: what the label maps may hold; None if another transform than ours loads them.
        names, palette: of the classes.
        notes: what is no fault, but what the owner of the data should know.
    """

    images: list[Path]
    labels: list[Path]
    source: Path
    folder: Path
    suffix: str
    label_folder: Path | None
    label_suffix: str
    rule: LabelRule | None
    names: Sequence[str]
    palette: Sequence[Sequence[int]]
    notes: Sequence[str] = ()


def has_labels(dataset: dict[str, Any]) -> bool:
    """Whether a data set's config names a folder of label maps."""
    prefix = dataset.get('data_prefix')
    return not isinstance(prefix, dict) or prefix.get('seg_map_path') is not None


def find_pairs(dataset: dict[str, Any], field: str) -> Pairs:
    """List a data set's pairs, by the data set's own class; whether the files exist is not checked.

    Args:
        dataset: its config, after `check_protocol`.
        field: what to call it in messages.

    Raises:
        UserError: if a folder is missing or empty, there is no image of the right name, a list of
            names is none, or the classes are wrong.
    """
    cls = dataset_class(dataset['type'], field, 'mmseg')
    names = class_names(dataset, cls, field)
    source = folder = require_folder(dataset, 'img_path', field)
    label_folder = require_folder(dataset, 'seg_map_path', field) if has_labels(dataset) else None
    if dataset.get('ann_file'):
        source = dataset_path(dataset, dataset['ann_file'])
        if not source.is_file():
            hint = ' tools/prepare_data.py voc ROOT makes it.' if source.stem == 'trainaug' else ''
            raise UserError(f'{source}: no such file ({field}.ann_file).{hint}')
    options = {key: value for key, value in dataset.items() if key != 'indices'}
    if not label_folder:  # mmengine takes no None
        options['data_prefix'] = dict(img_path=dataset['data_prefix'].get('img_path') or '')
    built = mmseg.registry.DATASETS.build({**options, 'pipeline': [], 'lazy_init': True})
    for ending in ('img_suffix', 'seg_map_suffix'):
        if not isinstance(given := getattr(built, ending), str):
            raise UserError(
                f'{field}.{ending}={given!r}: one ending as text. Several are a ConcatDataset of a '
                'data set for each (docs/data.md).'
            )
    note = check_names(source, built.img_suffix, folder) if source is not folder else None
    entries = built.load_data_list()
    if not entries:
        # raises where an ending is spelt otherwise
        unused_images(list_folder(folder), [], built.img_suffix)
        raise UserError(
            f'{source}: no images. {field} reads files whose names end in '
            f'{built.img_suffix!r}; check --data-root and img_suffix.'
        )
    rule = label_rule(dataset, built) if label_folder else None
    if rule is not None and built.seg_map_suffix.endswith(_NO_IMAGES):
        raise UserError(
            f'{field}.seg_map_suffix={built.seg_map_suffix!r}: label maps are images. Write them '
            'as PNG of one channel, or load them by a transform of your own.'
        )
    return Pairs(
        images=[Path(entry['img_path']) for entry in entries],
        labels=[Path(entry['seg_map_path']) for entry in entries if 'seg_map_path' in entry],
        source=source,
        folder=folder,
        suffix=built.img_suffix,
        label_folder=label_folder,
        label_suffix=built.seg_map_suffix,
        rule=rule,
        names=names,
        palette=list(built.metainfo['palette']),
        notes=[note] if note else [],
    )


def unused_notes(parts: Sequence[Pairs]) -> list[str]:
    """Say what lies in the folders of a split's data sets that none of them reads.

    Data sets that list names in a file choose themselves, and are passed over.

    Raises:
        UserError: if images are left out for the spelling of their ending alone, or have label maps
            and another ending.
    """
    folders: dict[Path, list[Pairs]] = {}
    for part in parts:
        if part.source == part.folder:
            folders.setdefault(part.folder, []).append(part)
    notes = []
    for folder, sharing in folders.items():
        used = [path for part in sharing for path in part.images]
        labels = [path for part in sharing for path in part.labels]
        suffixes = {part.suffix for part in sharing}
        suffix = suffixes.pop() if len(suffixes) == 1 else None
        listing = list_folder(folder)
        notes.append(unused_images(listing, used, suffix, labels))
        for part in sharing:
            if part.label_folder is not None:
                labeled = part.label_folder, part.label_suffix
                require_pairs_taken(listing, used, part.suffix, *labeled)
    return [note for note in notes if note]


def label_rule(dataset: dict[str, Any], built: Any) -> LabelRule | None:
    """The rule by which a data set's pipeline reads label maps; None if it is not ours.

    Args:
        dataset: its config.
        built: the data set, lazily.

    Raises:
        UserError: if data set and pipeline contradict each other.
    """
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
