"""Masks of COCO annotations: polygons and run lengths, and what is wrong with them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as mask_utils

from moca.data.coco import CROWD, NO_IMAGE, NO_POLYGON, OBJECT, OTHER, CocoFile, kind_of


def needs_mask(file: CocoFile, kind: str) -> bool:
    """Whether the mask of an annotation of this kind is read.

    pycocotools takes what mmdet's data set leaves out, as long as the class is known.
    """
    return file.masks and (kind in (OBJECT, CROWD) or (file.evaluated and kind != OTHER))


def classify(
    file: CocoFile, annotation: dict[str, Any], image: dict[str, Any] | None
) -> tuple[str, str | None]:
    """Return what a run makes of an annotation, and what is wrong with its mask.

    A run stops at the fault only if `needs_mask` of the kind; else the mask may be absent.

    Args:
        file: that holds the annotation.
        annotation: one of its rows.
        image: the row of its image; None if the file does not list it.
    """
    if image is None:
        return NO_IMAGE, None
    kind = kind_of(annotation, image, file.known)
    mask = annotation.get('segmentation')
    if not mask and not needs_mask(file, kind):
        return kind, None
    fault = mask_fault(file, annotation, image)
    if not fault and file.masks and kind in (OBJECT, CROWD) and not whole_polygons(mask):
        kind = NO_POLYGON
    return kind, fault


def mask_fault(file: CocoFile, annotation: dict[str, Any], image: dict[str, Any]) -> str | None:
    """What is wrong with polygons or RLE of an annotation so that a run would stop at it."""
    mask = annotation.get('segmentation')
    where = f'{file.path}: annotation {file.name_of(annotation)} of {image["file_name"]}'
    if not mask:
        return (
            f'{where} has no segmentation, and the model has a mask head. Give every object a '
            'mask, or remove mask_head and mask_roi_extractor from the model (None), with_mask '
            "from the pipeline and 'segm' from the evaluators."
        )
    if isinstance(mask, list):
        if not all(isinstance(polygon, list) for polygon in mask):
            return f'{where}: its segmentation has to be a list of polygons [[x, y, x, y, ...]].'
        if not all(map(_are_numbers, mask)):
            return f'{where} has a polygon with values that are no numbers. Remove or repair it.'
        if file.evaluated and not whole_parts(mask):  # pycocotools fails at some, guesses at others
            return (
                f'{where} has a polygon of fewer than three points or half a point, on which '
                'evaluation would fail. Remove or repair it.'
            )
        return None
    size = [image['height'], image['width']]
    if not isinstance(mask, Mapping) or 'counts' not in mask or mask.get('size') != size:
        return (
            f'{where}: its RLE mask needs counts and the size of the image, {size} (height, width).'
        )
    runs = run_lengths(mask['counts'])
    if runs is None or sum(runs) != size[0] * size[1] or min(runs) < 0:
        return (
            f'{where}: the counts of its RLE mask are no run lengths of an image of {size} '
            '(height, width).'
        )
    return None


def _are_numbers(polygon: list[Any]) -> bool:
    """Whether all are finite numbers; a sum takes far less time than a look at each."""
    try:
        return math.isfinite(sum(polygon))
    except (TypeError, OverflowError):
        return False


def run_lengths(counts: Any) -> list[int] | None:
    """Read the run lengths of an RLE mask, compressed or not; None if they cannot be read.

    pycocotools does not look at their sum: of too few it decodes a mask with random ends.
    Source of the compression: cocodataset/cocoapi, common/maskApi.c, rleFrString.
    """
    if isinstance(counts, list):
        return counts if counts and all(isinstance(run, int) for run in counts) else None
    if not isinstance(counts, str | bytes) or not counts.isascii():
        return None
    runs: list[int] = []
    run, shift = 0, 0
    for byte in counts.encode() if isinstance(counts, str) else counts:
        digit = byte - 48
        if not 0 <= digit < 64 or shift > 60:
            return None
        run |= (digit & 0x1F) << shift
        shift += 5
        if digit & 0x20:  # more digits follow
            continue
        if digit & 0x10:  # negative
            run |= -1 << shift
        runs.append(run + runs[-2] if len(runs) > 2 else run)
        run, shift = 0, 0
    return runs if runs and not shift else None


def whole_polygons(mask: Any) -> bool:
    """Whether mmdet finds a polygon to be used, or the mask is an RLE."""
    return not isinstance(mask, list) or bool(whole_parts(mask))


def whole_parts(mask: list[list[float]]) -> list[list[float]]:
    """The polygons of a mask that have three points or more, and no half one."""
    return [polygon for polygon in mask if _is_whole(polygon)]


def _is_whole(polygon: list[float]) -> bool:
    return len(polygon) % 2 == 0 and len(polygon) >= 6


def broken_polygons(mask: Any) -> int:
    """How many polygons of a mask have fewer than three points or half a point."""
    return sum(not _is_whole(polygon) for polygon in mask) if isinstance(mask, list) else 0


def flat_polygons(mask: Any) -> int:
    """How many polygons of three points or more have no area, by the shoelace formula."""
    if not isinstance(mask, list):
        return 0
    return sum(_is_whole(polygon) and _area(polygon) == 0 for polygon in mask)


def _area(polygon: list[float]) -> float:
    x, y = np.asarray(polygon, float).reshape(-1, 2).T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def decode_mask(mask: Any, height: int, width: int) -> NDArray[np.bool_]:
    """Decode polygons or RLE to bool ``[height, width]``; polygons that are none are left out."""
    if isinstance(mask, list):
        polygons = whole_parts(mask)
        if not polygons:
            return np.zeros((height, width), bool)
        mask = mask_utils.merge(mask_utils.frPyObjects(polygons, height, width))
    elif isinstance(mask['counts'], list):
        mask = mask_utils.frPyObjects(mask, height, width)
    return np.asarray(mask_utils.decode(mask), bool)
