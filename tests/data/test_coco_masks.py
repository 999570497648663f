"""Masks of COCO annotations beside pycocotools, and what no mask can be made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as mask_utils

from moca.data.coco import CocoFile
from moca.data.coco_masks import (
    broken_polygons,
    decode_mask,
    flat_polygons,
    mask_fault,
    run_lengths,
)

IMAGE = dict(id=1, file_name='a.jpg', height=30, width=40)
FILE = CocoFile(Path('a.json'), Path(), [IMAGE], [], {1: 'x'}, ('x',), masks=True, evaluated=True)


def blobs(seed: int) -> np.ndarray:
    """Masks with runs of very different length, some longer than a digit of the compression."""
    random = np.random.default_rng(seed)
    mask = random.random((30, 40)) < random.random()
    mask[:, : int(random.integers(0, 40))] = random.random() < 0.5
    return np.asfortranarray(mask, np.uint8)


@pytest.mark.parametrize('seed', range(8))
def test_run_lengths(seed: int) -> None:
    mask = blobs(seed)
    pixels = mask.ravel('F')
    runs = np.diff([0, *(np.flatnonzero(np.diff(pixels)) + 1), pixels.size]).tolist()
    runs = [0, *runs] if pixels[0] else runs  # the first run is of zeros
    compressed = mask_utils.encode(mask)['counts']
    assert run_lengths(compressed) == run_lengths(compressed.decode()) == runs
    for counts in (compressed.decode(), runs):
        rle = dict(size=[30, 40], counts=counts)
        assert mask_fault(FILE, dict(id=1, segmentation=rle), IMAGE) is None
        assert np.array_equal(decode_mask(rle, 30, 40), mask)


@pytest.mark.parametrize('counts', ['abc', 'zzzz', '', '0', 12, [], [30 * 40, 1], [-5, 1205], None])
def test_run_lengths_of_no_mask(counts: Any) -> None:
    """pycocotools makes up a mask of some of them, with pixels that are not initialized."""
    annotation = dict(id=7, segmentation=dict(size=[30, 40], counts=counts))
    fault = mask_fault(FILE, annotation, IMAGE)
    assert fault is not None
    assert 'annotation 7 of a.jpg: the counts of its RLE mask' in fault


def test_a_list_of_coordinates_instead_of_polygons() -> None:
    fault = mask_fault(FILE, dict(id=7, segmentation=[1, 1, 9, 1, 9, 9]), IMAGE)
    assert fault is not None
    assert 'annotation 7 of a.jpg: its segmentation has to be a list of polygons' in fault


@pytest.mark.parametrize('value', ['12', None, float('nan'), float('-inf'), [3]])
def test_polygons_of_other_things_than_numbers(value: Any) -> None:
    annotation = dict(id=7, segmentation=[SQUARE, [1, 1, 9, 1, value, 9]])
    fault = mask_fault(FILE, annotation, IMAGE)
    assert fault is not None
    assert 'annotation 7 of a.jpg has a polygon with values that are no numbers' in fault


@pytest.mark.parametrize('size', [None, 30, [40, 30], 'abc'])
def test_the_size_of_run_lengths(size: Any) -> None:
    annotation = dict(id=7, segmentation=dict(size=size, counts=[30 * 40]))
    fault = mask_fault(FILE, annotation, IMAGE)
    assert fault is not None
    assert 'needs counts and the size of the image, [30, 40]' in fault


SQUARE = [2, 3, 12, 3, 12, 23, 2, 23]


@pytest.mark.parametrize(
    ('polygons', 'broken', 'flat'),
    [
        ([SQUARE], 0, 0),
        ([SQUARE, [1, 1, 2, 2]], 1, 0),
        ([SQUARE[:7], SQUARE], 1, 0),
        ([[1, 1, 5, 5, 9, 9]], 0, 1),
        ([[4, 4, 4, 4, 4, 4], SQUARE, [5, 5]], 1, 1),
        ([[0.5, 0, 0.5, 7, 0.5, 3, 0.5, 1]], 0, 1),
    ],
)
def test_degenerate_polygons(polygons: list[list[float]], broken: int, flat: int) -> None:
    assert (broken_polygons(polygons), flat_polygons(polygons)) == (broken, flat)
    wanted = np.zeros((30, 40), bool)
    if SQUARE in polygons:
        wanted[3:23, 2:12] = True
    if not flat:  # pycocotools draws a line of pixels for some
        assert np.array_equal(decode_mask(polygons, 30, 40), wanted)
