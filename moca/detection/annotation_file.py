"""COCO annotation files, read and normalized once for data set, metric, checks and figures alike.

mmdet and pycocotools read what a file says in ways of their own, and each stumbles over, or quietly
misreads, something that the other takes. Here a file is held against what both need, and brought
into one form: whole-numbered ids, ``iscrowd`` 0 or 1, '/' in file names, whole polygons.
"""

from __future__ import annotations

import math
import os
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any

from moca.detection.annotation_ids import Key, id_key, number
from moca.detection.annotation_tables import Row, read_tables
from moca.errors import UserError

_IDS = {
    'images': ('id',),
    'categories': ('id',),
    'annotations': ('id', 'image_id', 'category_id'),
}
# Far beyond any image, and well within what 32-bit floats and pycocotools' integers can hold.
_LARGEST = 1e15
_LARGEST_SIDE = 2**20
_UNPRINTABLE = re.compile(r'[\x00-\x1f\x7f\ud800-\udfff]')


@dataclass(frozen=True)
class AnnotationFile:
    """The tables of an annotation file, normalized.

    Attributes:
        path: Of the file.
        images: Rows with a whole ``id``, ``height`` and ``width`` and perhaps a ``file_name``.
        categories: Rows with a whole ``id`` and a ``name``.
        annotations: Rows with whole ids, a ``bbox`` and ``area`` of numbers, ``iscrowd`` 0 or 1.
        written: By table, the ids as the file writes them, of those that became another number.
        changes: What was read otherwise than it is written, and how often.
    """

    path: Path
    images: list[Row]
    categories: list[Row]
    annotations: list[Row]
    written: dict[str, dict[int, Any]] = field(default_factory=dict)
    changes: dict[str, int] = field(default_factory=dict)

    def describe_changes(self) -> str:
        """A clause that lists the changes with their counts; empty if there are none."""
        return ', '.join(f'{count:,} {what}' for what, count in self.changes.items())


def read_annotation_file(path: str | Path) -> AnnotationFile:
    """Read a COCO file of instances, labeled or not (``annotations`` may be absent).

    Raises:
        UserError: It is no such file, or an entry is not what mmdet and pycocotools need; the
            message names the entry. Masks are looked at by :mod:`moca.data.coco_masks`.
    """
    path = Path(path)
    tables = read_tables(path)
    changes: defaultdict[str, int] = defaultdict(int)
    _check_images(path, tables['images'])
    _check_annotations(path, tables['annotations'], changes)
    for place, row in enumerate(tables['categories']):
        if not isinstance(row['name'], str) or _UNPRINTABLE.search(row['name']):
            raise UserError(f'{path}: categories[{place}].name={row["name"]!a}: not a name.')
    written = _number_all(path, tables, changes)
    tables['categories'] = _each_once(path, tables['categories'], changes)
    _tidy_names(tables['images'], changes)
    made = {what: count for what, count in changes.items() if count}
    return AnnotationFile(path, written=written, changes=made, **tables)


def _is_number(value: Any) -> bool:
    # a comparison with NaN is false
    return type(value) in (int, float) and abs(value) < _LARGEST


def _check_images(path: Path, images: list[Row]) -> None:
    for place, row in enumerate(images):
        for key in ('height', 'width'):
            value = row[key]
            if not _is_number(value):
                raise UserError(f'{path}: images[{place}].{key}={_short(value)}: not a number.')
            if value != int(value) or not 1 <= value <= _LARGEST_SIDE:
                raise UserError(
                    f'{path}: images[{place}].{key}={_short(value)}: not a whole number of pixels.'
                )
            row[key] = int(value)
        name = row.get('file_name', '')
        if not isinstance(name, str) or _UNPRINTABLE.search(name):
            raise UserError(f'{path}: images[{place}].file_name={_short(name)}: not a file name.')


def _check_annotations(path: Path, annotations: list[Row], changes: dict[str, int]) -> None:
    for place, row in enumerate(annotations):
        box, crowd = row['bbox'], row.get('iscrowd')
        if not _is_number(row['area']):
            value = _short(row['area'])
            raise UserError(f'{path}: annotations[{place}].area={value}: not a number.')
        if not (isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))):
            raise UserError(
                f'{path}: annotations[{place}].bbox={_short(box)}: not four numbers (x, y, width, '
                'height).'
            )
        if crowd is None:
            changes["annotations whose 'iscrowd' is absent or null taken for no crowd"] += 1
        elif crowd not in (0, 1, '0', '1'):
            value = _short(crowd)
            raise UserError(f'{path}: annotations[{place}].iscrowd={value}: neither 0 nor 1.')
        row['iscrowd'] = int(crowd or 0)
        mask = row.get('segmentation')
        if isinstance(mask, list):
            if any(map(_is_nowhere, mask)):
                raise UserError(
                    f'{path}: annotations[{place}].segmentation has a coordinate that no '
                    'image has (NaN, or far beyond). Remove or repair it.'
                )
            row['segmentation'] = _whole(mask, changes)
        elif isinstance(mask, dict):
            size = mask.get('size')
            if isinstance(size, list) and len(size) == 2 and all(map(_is_number, size)):
                mask['size'] = [int(n) if n == int(n) else n for n in size]


def _whole(polygons: list[Any], changes: dict[str, int]) -> list[Any]:
    """Polygons that mmdet reads, where some are and some are not; pycocotools would read more."""
    if len(polygons) < 2 or not all(isinstance(polygon, list) for polygon in polygons):
        return polygons
    whole = [polygon for polygon in polygons if len(polygon) >= 6 and len(polygon) % 2 == 0]
    if not whole or len(whole) == len(polygons):
        return polygons
    broken = len(polygons) - len(whole)
    changes['polygons of fewer than three points or half a point left out of masks'] += broken
    return whole


def _is_nowhere(polygon: Any) -> bool:
    """Whether pycocotools could run out of memory: it takes some for each pixel of an edge."""
    try:
        if not polygon or -_LARGEST_SIDE < min(polygon) <= max(polygon) < _LARGEST_SIDE:
            return bool(polygon) and math.isnan(sum(polygon))
    except TypeError:  # no polygon at all
        return False
    return True


def _short(value: Any) -> str:
    """A value for a message of one line."""
    text = ascii(value)
    return text if len(text) <= 60 else text[:57] + '...'


def _number_all(
    path: Path, tables: dict[str, list[Row]], changes: dict[str, int]
) -> dict[str, dict[int, Any]]:
    """Replace every id by a whole number; returns those that were written otherwise, by table."""
    written: dict[str, dict[int, Any]] = {}
    keys = {
        (name, key): [_key(path, name, place, key, row) for place, row in enumerate(rows)]
        for name, rows in tables.items()
        for key in _IDS[name]
    }
    for name, reference in (('images', 'image_id'), ('categories', 'category_id'), ('', '')):
        table = name or 'annotations'
        own, others = keys[table, 'id'], keys['annotations', reference] if name else []
        numbers = number([*own, *others], least=0 if name else 1)
        here: dict[int, Any] = {}
        for row, key in zip(tables[table], own, strict=True):
            if type(row['id']) is not int or row['id'] != numbers[key]:
                here[numbers[key]] = row['id']
            row['id'] = numbers[key]
        loose = 0
        for row, key in zip(tables['annotations'] if name else [], others, strict=True):
            loose += type(row[reference]) is not int
            row[reference] = numbers[key]
        if here:
            written[table] = here
            anew = any(numbers[key] != key for key in own)
            how = 'numbered anew, from 1' if anew else 'read as whole numbers'
            changes[f'ids of {table} {how}'] = len(here)
        elif loose:
            changes[f'annotations whose {reference} is read as a whole number'] = loose
    return written


def _key(path: Path, table: str, place: int, field_name: str, row: Row) -> Key:
    key = id_key(row[field_name])
    if key is None:
        raise UserError(f'{path}: {table}[{place}].{field_name}={_short(row[field_name])}: no id.')
    return key


def _each_once(path: Path, categories: list[Row], changes: dict[str, int]) -> list[Row]:
    """Leave out repeated categories: mmdet would give the repetition a label of its own."""
    found: dict[int, Row] = {}
    for place, row in enumerate(categories):
        first = found.setdefault(row['id'], row)
        if first['name'] != row['name']:
            raise UserError(
                f'{path}: categories[{place}], {row["name"]!r}, has the id {row["id"]} of '
                f'{first["name"]!r}. Give each category an id of its own.'
            )
    changes['repeated categories left out'] = len(categories) - len(found)
    return list(found.values())


def _tidy_names(images: list[Row], changes: dict[str, int]) -> None:
    """Write file names with '/', and below the folder of images where they lead to another disk."""
    absolute: list[Row] = []
    for row in images:
        name = row.get('file_name') or ''
        if '\\' in name:
            changes["file names with '\\' read with '/'"] += 1
            row['file_name'] = name.replace('\\', '/')
        if PureWindowsPath(name).root and not os.path.exists(row['file_name']):
            row['file_name'] = re.sub('/+', '/', row['file_name'])
            absolute.append(row)
    if not absolute:
        return
    # All that the names have in common is taken for the folder of images there.
    folders = [row['file_name'].rpartition('/')[0] for row in absolute]
    try:
        common = os.path.commonpath(folders)
    except ValueError:  # of several disks
        return
    for row in absolute:
        row['file_name'] = row['file_name'][len(common.rstrip('/')) :].lstrip('/')
    changes[f'absolute file names read as relative to {common!a}'] = len(absolute)
