"""Boxes of COCO annotations beside their masks and images: what home-made converters get wrong.

The format wants x, y, width and height in pixels. Files with the two corners, or with fractions of
the image, are read without a complaint, and a detector then learns boxes that no object has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pycocotools import mask as mask_utils

from moca.data.coco import AREA_ZERO, OBJECT, CocoFile, kind_of
from moca.data.coco_masks import mask_fault, whole_parts

Box = Sequence[float]

# By how much a side of a box may miss that of its mask: rounding, and annotators who leave some
# room [our choice: pixels, and share of the mask's width or height].
_PIXELS, _SHARE = 2.0, 0.05
# Fewer boxes may look like anything [our choice].
_ENOUGH = 4

CORNERS = 'corners (x1, y1, x2, y2)'
WANTED = "'bbox' is x, y, width and height in pixels (docs/data.md)"


def box_notes(file: CocoFile) -> tuple[dict[str, list[str]], list[str]]:
    """Compare boxes with masks and images.

    Returns:
        Where something is odd, by what it is, and what is certainly wrong with the whole file.
    """
    images = {image['id']: image for image in file.images}
    objects = [
        (row, images[row['image_id']])
        for row in file.annotations
        if row['image_id'] in images and not row['iscrowd']
    ]
    if fault := _fractions(file, [row['bbox'] for row, _ in objects]):
        return {}, [fault]
    off: list[str] = []
    corners: list[str] = []
    right = 0
    bare: list[tuple[Box, dict[str, Any]]] = []
    for row, image in objects:
        if kind_of(row, image, file.known) not in (OBJECT, AREA_ZERO):
            continue  # counted as what it is
        mask = mask_box(file, row, image)
        if mask is None:
            bare.append((row['bbox'], image))
            continue
        as_sizes, as_corners = _fits(_to_corners(row['bbox']), mask), _fits(row['bbox'], mask)
        right += as_sizes and not as_corners  # both hold near the upper left corner
        if not as_sizes:
            where = f'{file.name_of(row)} of {image["file_name"]}'
            (corners if as_corners else off).append(where)
    odd = {}
    if off:
        odd['boxes that are not those of their masks'] = off
    if corners:
        odd[f'boxes that hold the {CORNERS} of their masks, not width and height'] = corners
    faults = []
    if len(corners) > right + len(off):
        faults.append(
            f'{file.path}: {len(corners):,} boxes hold the {CORNERS} of their masks, and '
            f'{right:,} width and height. {WANTED}: write x2 - x1 and y2 - y1.'
        )
    elif _look_like_corners(bare):
        odd[f'boxes that all look like {CORNERS}; {WANTED}'] = [str(file.path)]
    return odd, faults


def _fractions(file: CocoFile, boxes: Sequence[Box]) -> str | None:
    if not boxes or not all(-1 <= value <= 1 for box in boxes for value in box):
        return None
    return (
        f'{file.path}: all {len(boxes):,} boxes lie within 0..1: fractions of the image. {WANTED}: '
        'multiply by the width and height of the image, boxes and polygons alike.'
    )


def mask_box(file: CocoFile, annotation: dict[str, Any], image: dict[str, Any]) -> Box | None:
    """The corners (x1, y1, x2, y2) around a mask; None if there is no mask, or a broken one."""
    mask = annotation.get('segmentation')
    if not mask or mask_fault(file, annotation, image) is not None:
        return None
    if isinstance(mask, list):
        # plain Python: arrays of so few numbers cost several times as much
        polygons = whole_parts(mask)
        if not polygons:
            return None
        x = [side(polygon[::2]) for polygon in polygons for side in (min, max)]
        y = [side(polygon[1::2]) for polygon in polygons for side in (min, max)]
        return min(x), min(y), max(x), max(y)
    if isinstance(mask['counts'], list):
        mask = mask_utils.frPyObjects(mask, *mask['size'])
    box = _to_corners(mask_utils.toBbox(mask).tolist())
    return box if box[2] > box[0] and box[3] > box[1] else None


def _to_corners(box: Box) -> Box:
    x, y, width, height = box
    return x, y, x + width, y + height


def _fits(box: Box, mask: Box) -> bool:
    across = max(_PIXELS, _SHARE * (mask[2] - mask[0]))
    down = max(_PIXELS, _SHARE * (mask[3] - mask[1]))
    return (
        abs(box[0] - mask[0]) <= across
        and abs(box[2] - mask[2]) <= across
        and abs(box[1] - mask[1]) <= down
        and abs(box[3] - mask[3]) <= down
    )


def _look_like_corners(boxes: Sequence[tuple[Box, dict[str, Any]]]) -> bool:
    """Whether some boxes reach beyond their image, and none would if they were corners."""
    if len(boxes) < _ENOUGH:
        return False
    beyond = False
    for (x, y, width, height), image in boxes:
        if not (0 <= x < width <= image['width'] and 0 <= y < height <= image['height']):
            return False
        beyond |= x + width > image['width'] + 1 or y + height > image['height'] + 1
    return beyond


def repeated(file: CocoFile) -> dict[str, list[str]]:
    """Name what a file lists more than once: objects by image, class and box, and image files."""
    images = {image['id']: image for image in file.images}
    objects: set[Any] = set()
    twice: list[str] = []
    for row in file.annotations:
        image = images.get(row['image_id'])
        if image is None or kind_of(row, image, file.known) != OBJECT:
            continue
        key = (row['image_id'], row['category_id'], *row['bbox'])
        if key in objects:
            twice.append(f'{file.name_of(row)} of {image["file_name"]}')
        objects.add(key)
    files: set[str] = set()
    again: list[str] = []
    for image in file.images:
        name = str(file.path_of(image))
        if name in files:
            again.append(image['file_name'])
        files.add(name)
    found = {
        'objects listed twice (same image, class and box)': twice,
        'image files listed twice, each time with some of the objects': again,
    }
    return {what: where for what, where in found.items() if where}
