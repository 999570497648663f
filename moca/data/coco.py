"""Reading COCO annotation files, and telling what mmdet and pycocotools make of an annotation."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mmengine.config import Config

from moca.data.config_datasets import nested_dicts
from moca.errors import UserError
from moca.images.files import SHOWN, dataset_path, require_folder

CROWD = 'crowds'
OBJECT = 'objects'
# Reasons for which mmdet's CocoDataset leaves an annotation out or ignores it.
NO_IMAGE = 'of images that the file does not list'
MARKED = 'marked to be ignored'
NO_AREA = 'with a box or a mask of no area'
OUTSIDE = 'outside their image'
OTHER = 'of categories that are no classes here'
NO_POLYGON = 'without a polygon of three points'

_NEEDED = {
    'images': ('id', 'file_name', 'height', 'width'),
    'categories': ('id', 'name'),
    'annotations': ('id', 'image_id', 'category_id', 'bbox', 'area'),
}
_NUMBERS = {'images': ('height', 'width'), 'annotations': ('area',)}


@dataclass(frozen=True)
class CocoFile:
    """An annotation file of COCO's format, as one data set of a config reads it.

    Attributes:
        path: of the file.
        folder: of its images.
        images, annotations: its rows.
        categories: names of its categories by their id.
        classes: names of the data set's classes, in the order of their labels.
        masks: whether the model has a mask head, and every annotation needs a mask.
        evaluated: whether it is for evaluation, which takes what training leaves out.
    """

    path: Path
    folder: Path
    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    categories: dict[int, str]
    classes: tuple[str, ...]
    masks: bool
    evaluated: bool

    @cached_property
    def known(self) -> set[int]:
        """Ids of the categories that are classes."""
        return {key for key, name in self.categories.items() if name in self.classes}

    def path_of(self, image: Mapping[str, Any]) -> Path:
        """The file of one of the images."""
        return self.folder / image['file_name']


def read_coco(cfg: Config, dataset: dict[str, Any], cls: Any, field: str) -> CocoFile:
    """Read the annotation file of a data set, whose rows have all that is needed.

    Args:
        cfg: the run's, whose model may have a mask head.
        dataset: config of the data set.
        cls: its class, mmdet's `CocoDataset` or one derived from it.
        field: where it stands in the config.

    Raises:
        UserError: naming the folder or file that is missing, or what the file lacks.
    """
    folder = require_folder(dataset, 'img', field)
    path = dataset_path(dataset, dataset['ann_file'])
    if not path.is_file():
        raise UserError(f'{path}: no such annotation file ({field}.ann_file).')
    content = _read(path)
    images, annotations = content['images'], content['annotations']
    if not images or not annotations:
        raise UserError(f'{path}: {len(images)} images and {len(annotations)} annotations.')
    categories = {category['id']: category['name'] for category in content['categories']}
    return CocoFile(
        path=path,
        folder=folder,
        images=images,
        annotations=annotations,
        categories=categories,
        classes=_classes(dataset, cls, list(categories.values()), path, field),
        masks=any(node.get('mask_head') for node in nested_dicts(cfg.get('model'))),
        evaluated=bool(dataset.get('test_mode')),
    )


def _read(path: Path) -> dict[str, list[dict[str, Any]]]:
    try:
        content = json.loads(path.read_bytes())
        parts = {name: content[name] for name in _NEEDED}
        for name, keys in _NEEDED.items():
            for place, row in enumerate(parts[name]):
                absent = [key for key in keys if key not in row]
                if absent:
                    raise UserError(f'{path}: {name}[{place}] has no {", ".join(absent)}.')
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f'{path}: not a COCO instances file ({type(error).__name__}: {error}). It needs '
            "'images' with file_name, 'annotations' and 'categories' with name."
        ) from error
    for name, keys in _NUMBERS.items():
        for place, row in enumerate(parts[name]):
            for key in keys:
                if not _is_number(row[key]):
                    raise UserError(f'{path}: {name}[{place}].{key}={row[key]!r}: not a number.')
    for place, row in enumerate(parts['annotations']):
        if not _is_box(row['bbox']):
            raise UserError(
                f'{path}: annotations[{place}].bbox={row["bbox"]!r}: not four numbers (x, y, '
                'width, height).'
            )
    return parts


def _is_box(box: Any) -> bool:
    return isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) < math.inf


def _classes(
    dataset: dict[str, Any], cls: Any, categories: list[str], path: Path, field: str
) -> tuple[str, ...]:
    classes = (dataset.get('metainfo') or {}).get('classes') or cls.METAINFO.get('classes') or ()
    if isinstance(classes, str):  # a file with one a line, or one class
        named = Path(classes)
        classes = named.read_text().split('\n') if named.is_file() else [classes]
    classes = tuple(name for name in classes if name)
    absent = [name for name in classes if name not in categories]
    if absent:
        # mmdet numbers the classes that it finds, so that one that is absent shifts the others.
        raise UserError(
            f'{path}: has no category {absent[0]!r} ({len(absent)} of {len(classes)} classes of '
            f'{field} are absent). It has {categories[:SHOWN]} ...; set metainfo.classes '
            'and the num_classes of the heads to the classes of the file.'
        )
    ordered = tuple(name for name in categories if name in classes)
    if ordered != classes:
        # mmdet's labels follow the file, its names the config; two files could even disagree.
        place = next(i for i in range(len(ordered)) if ordered[i] != (*classes, None)[i])
        raise UserError(
            f'{path}: label {place} is category {ordered[place]!r} there, but '
            f'{(*classes, None)[place]!r} in metainfo.classes of {field}. mmdet numbers classes '
            'as the file lists its categories: list both in the same order, and each name once.'
        )
    return classes


def duplicates(file: CocoFile) -> list[str]:
    """Say which ids occur twice; mmdet would stop at some of them and mix up the others.

    Categories of the same id are merged on reading, so they are not counted here.
    """
    texts = []
    for name, rows in (('images', file.images), ('annotations', file.annotations)):
        ids = Counter(row['id'] for row in rows)
        twice = [key for key, count in ids.items() if count > 1]
        if twice:
            texts.append(
                f'{file.path}: {len(twice)} ids of {name} occur twice, such as {twice[0]}.'
            )
    return texts


def kind_of(annotation: dict[str, Any], image: dict[str, Any], known: set[int]) -> str:
    """What mmdet's CocoDataset.parse_data_info makes of an annotation, in its order."""
    x, y, width, height = annotation['bbox']
    if annotation.get('ignore'):
        return MARKED
    if width < 1 or height < 1 or annotation['area'] <= 0:
        return NO_AREA
    if min(x + width, image['width']) <= max(x, 0) or min(y + height, image['height']) <= max(y, 0):
        return OUTSIDE
    if annotation['category_id'] not in known:
        return OTHER
    return CROWD if annotation.get('iscrowd') else OBJECT
