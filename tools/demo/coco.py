"""Instance annotations in COCO's JSON format, measured from the painted masks."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as mask_utils

from tools.demo.canvas import SCALE, Instance, Mask

_NAMES = """person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light,
fire hydrant, stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow,
elephant, bear, zebra, giraffe, backpack, umbrella, handbag, tie, suitcase, frisbee,
skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard,
surfboard, tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana,
apple, sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake, chair, couch,
potted plant, bed, dining table, toilet, tv, laptop, mouse, remote, keyboard, cell
phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors,
teddy bear, hair drier, toothbrush"""

_UNUSED_IDS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
"""COCO numbered 90 categories and annotated 80 of them (instances_val2017.json)."""

CATEGORY_IDS: dict[str, int] = dict(
    zip(
        _NAMES.replace('\n', ' ').split(', '),
        (i for i in range(1, 91) if i not in _UNUSED_IDS),
        strict=True,
    )
)

MIN_AREA = 12.0
"""Objects of which fewer pixels can be seen are left without annotation, as annotators do."""


def polygons(mask: Mask) -> list[list[float]]:
    """Outlines of a mask `[2H, 2W]` as COCO polygons, in pixels of the finished image.

    COCO's coordinates run along pixel corners (pixel i covers i..i+1), OpenCV's through pixel
    centers.
    """
    painted = mask.astype(np.uint8)
    contours, _ = cv2.findContours(painted, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    outlines = []
    for contour in contours:
        corners = cv2.approxPolyDP(contour, 0.6, closed=True)[:, 0, :]
        if len(corners) >= 3:
            outlines.append(((corners + 0.5) / SCALE).round(2).ravel().tolist())
    return outlines


def run_lengths(mask: Mask) -> dict[str, Any]:
    """COCO's uncompressed RLE of a mask `[H, W]`: runs of 0 and 1 in column order, zeros first."""
    pixels = mask.ravel(order='F')
    changes = np.flatnonzero(np.diff(pixels)) + 1
    edges = np.concatenate([[0], changes, [pixels.size]])
    counts = np.diff(edges).tolist()
    return dict(counts=[0, *counts] if pixels[0] else counts, size=list(mask.shape))


def _box(pixels: NDArray[np.bool_]) -> list[float]:
    """Tight box (x, y, width, height) around a mask `[H, W]`."""
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    x, y = float(columns[0]), float(rows[0])
    return [x, y, float(columns[-1]) - x + 1.0, float(rows[-1]) - y + 1.0]


def annotation(instance: Instance) -> dict[str, Any] | None:
    """COCO annotation of an object (without ids), or None where too little of it can be seen."""
    visible = instance.mask[::SCALE, ::SCALE]
    segmentation: Any
    if instance.crowd:
        pixels, segmentation = visible, run_lengths(visible)
    else:
        segmentation = polygons(instance.mask)
        if not segmentation:
            return None
        runs = mask_utils.merge(mask_utils.frPyObjects(segmentation, *visible.shape))
        pixels = mask_utils.decode(runs).astype(bool)
    if pixels.sum() < MIN_AREA:
        return None
    return dict(
        category_id=CATEGORY_IDS[instance.category],
        iscrowd=int(instance.crowd),
        segmentation=segmentation,
        area=float(pixels.sum()),
        bbox=_box(pixels),
    )


def document(images: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> dict[str, Any]:
    """The whole annotation file; categories are COCO's 80, whichever of them occur."""
    return dict(
        info=dict(description='Generated demo images in the format of COCO; not COCO'),
        licenses=[],
        images=images,
        annotations=[dict(id=i, **content) for i, content in enumerate(annotations, start=1)],
        categories=[dict(id=number, name=name) for name, number in CATEGORY_IDS.items()],
    )
