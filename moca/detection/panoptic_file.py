"""Panoptic annotations in COCO's format: a JSON file of segments, and PNGs of their ids."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from moca.detection.annotation_ids import id_key
from moca.detection.annotation_tables import Row, read_tables
from moca.errors import UserError

VOID = 0
"""Id of pixels that belong to no segment."""

_LARGEST = 256**3 - 1
_NEEDED = {
    'images': ('id', 'file_name', 'height', 'width'),
    'categories': ('id', 'name', 'isthing'),
    'annotations': ('image_id', 'file_name', 'segments_info'),
}


def _is_id(value: Any) -> bool:
    return id_key(value) is not None


def _is_side(value: Any) -> bool:
    side = id_key(value)
    return isinstance(side, int) and side > 0


_TYPES: dict[str, tuple[Callable[[Any], bool], str]] = {
    'id': (_is_id, 'a number'),
    'image_id': (_is_id, 'the id of an image'),
    'height': (_is_side, 'a whole number of pixels'),
    'width': (_is_side, 'a whole number of pixels'),
    'file_name': (lambda value: isinstance(value, str) and value != '', "a file's name"),
    'name': (lambda value: isinstance(value, str), 'a text'),
    'isthing': (lambda value: value in (0, 1), '0 or 1'),
    'segments_info': (lambda value: isinstance(value, list), 'a list of segments, perhaps empty'),
}
"""Of each field that is needed, what it may hold, and how to say so."""


@dataclass(frozen=True)
class Segment:
    """One segment of an image.

    Attributes:
        id: Of its pixels in the PNG.
        category: Id of its category.
        crowd: Whether it stands for several objects, which nothing is to match.
    """

    id: int
    category: int
    crowd: bool


@dataclass(frozen=True)
class PanopticImage:
    """An image, its size in pixels, its PNG and its segments."""

    id: Any
    file_name: str
    height: int
    width: int
    png: str
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class PanopticFile:
    """What an annotation file says.

    Attributes:
        path: Of the file.
        images: That have annotations.
        categories: Rows with ``id``, ``name`` and ``isthing``, in the file's order.
        without: How many images have none, and are left out.
    """

    path: Path
    images: list[PanopticImage]
    categories: list[Row]
    without: int


def read_panoptic_file(path: str | Path) -> PanopticFile:
    """Read a file of COCO's panoptic format.

    Raises:
        UserError: It is no such file, or an entry is not what it should be, which the message
            names: an id that no PNG can hold, one that is there twice, an unknown category, a
            field of another type.
    """
    path = Path(path)
    tables = read_tables(path, _NEEDED, 'panoptic')
    _check_types(path, tables)
    categories = {row['id']: row for row in tables['categories']}
    if len(categories) < len(tables['categories']):
        raise UserError(f'{path}: an id of categories occurs twice. Give each one of its own.')
    annotations: dict[Any, Row] = {}
    for row in tables['annotations']:
        if row['image_id'] in annotations:
            raise UserError(f'{path}: image {row["image_id"]!r:.60} has annotations twice.')
        annotations[row['image_id']] = row
    images, known = [], set()
    for row in tables['images']:
        if row['id'] in known:
            raise UserError(
                f'{path}: image {row["id"]!r:.60} is listed twice. Give each an id of its own.'
            )
        known.add(row['id'])
        if (found := annotations.get(row['id'])) is not None:
            segments = _segments(path, found, categories)
            height, width = (int(row[side]) for side in ('height', 'width'))
            about = (row['id'], row['file_name'], height, width)
            images.append(PanopticImage(*about, found['file_name'], segments))
    if strangers := [key for key in annotations if key not in known]:
        raise UserError(
            f'{path}: annotations of {len(strangers)} images that it does not list, such as '
            f'{strangers[0]!r:.60}.'
        )
    return PanopticFile(path, images, tables['categories'], len(known) - len(images))


def _check_types(path: Path, tables: dict[str, list[Row]]) -> None:
    """Refuse fields of another type than COCO's; whole numbers may be written as 7.0 or '7'."""
    for table, rows in tables.items():
        for place, row in enumerate(rows):
            for key in _NEEDED[table]:
                if not _right(key, row[key]):
                    raise UserError(
                        f'{path}: {table}[{place}] has {key}={row[key]!r:.60}. Write '
                        f'{_TYPES[key][1]}.'
                    )


def _right(key: str, value: Any) -> bool:
    return _TYPES[key][0](value)


def _segments(path: Path, row: Row, categories: dict[Any, Row]) -> tuple[Segment, ...]:
    where = f'{path}: segments of image {row["image_id"]!r:.60}'
    found: dict[int, Segment] = {}
    for info in row['segments_info']:
        if not isinstance(info, dict) or not {'id', 'category_id'} <= set(info):
            raise UserError(f'{where}: {info!r:.60} lacks id or category_id.')
        if not _right('id', info['category_id']) or not _right('isthing', info.get('iscrowd') or 0):
            raise UserError(
                f'{where}: {info!r:.80}. Write a number as category_id, and 0 or 1 as iscrowd.'
            )
        key = info['id']
        if type(key) is not int or not VOID < key <= _LARGEST:
            raise UserError(
                f'{where}: id={key!r}, but a PNG holds ids from 1 to {_LARGEST} (24 bits).'
            )
        if key in found:
            raise UserError(f'{where}: id {key} occurs twice.')
        if info['category_id'] not in categories:
            raise UserError(f'{where}: no category has the id {info["category_id"]!r}.')
        found[key] = Segment(key, info['category_id'], bool(info.get('iscrowd')))
    return tuple(found.values())


def check_mode(path: str | Path) -> None:
    """Verify by its header that a PNG can hold ids.

    Raises:
        UserError: It is damaged, or no RGB image.
    """
    try:
        with Image.open(path) as image:
            _require_rgb(image, path)
    except (OSError, SyntaxError) as error:
        raise UserError(f'{path}: cannot be read ({error}).') from error


def _require_rgb(image: Image.Image, path: str | Path) -> None:
    if image.mode != 'RGB':
        raise UserError(
            f'{path}: a PNG of mode {image.mode}, where ids of segments take RGB (red + 256 green '
            '+ 65,536 blue).'
        )


def read_ids(path: str | Path) -> NDArray[np.int32]:
    """Ids of an RGB PNG's pixels, ``[H, W]``: red + 256 green + 65,536 blue.

    Raises:
        UserError: The file is missing, damaged, or no RGB image.
    """
    try:
        with Image.open(path) as image:
            _require_rgb(image, path)
            pixels = np.asarray(image, np.int32)
    except (OSError, SyntaxError) as error:
        raise UserError(f'{path}: cannot be read ({error}).') from error
    return np.asarray(pixels @ np.array([1, 256, 65_536], np.int32), np.int32)


def write_ids(path: str | Path, ids: NDArray[np.integer]) -> None:
    """Write ids ``[H, W]`` below 2 ** 24 as `read_ids` reads them."""
    Image.fromarray(id_colors(ids)).save(path)


def id_colors(ids: NDArray[np.integer]) -> NDArray[np.uint8]:
    """RGB ``[H, W, 3]`` of ids ``[H, W]`` below 2 ** 24: red + 256 green + 65,536 blue."""
    return np.stack([(ids >> shift & 255).astype(np.uint8) for shift in (0, 8, 16)], axis=-1)


def fault_of(
    ids: NDArray[np.int32], image_size: tuple[int, int], segments: tuple[Segment, ...]
) -> str | None:
    """How a PNG disagrees with the JSON file; None if it does not.

    Segments without pixels are none: they are left out.

    Args:
        ids: Of the PNG's pixels.
        image_size: Height and width that the JSON file says.
        segments: That it lists.
    """
    if ids.shape != image_size:
        own, wanted = (f'{size[1]} x {size[0]}' for size in (ids.shape, image_size))
        return f'{own} pixels for an image of {wanted}'
    listed = {VOID, *(segment.id for segment in segments)}
    strange = [key for key in np.unique(ids).tolist() if key not in listed]
    if strange:
        others = f' ({len(strange)} ids in all)' if len(strange) > 1 else ''
        return f'id {strange[0]}{others} is no segment of the JSON file'
    return None
