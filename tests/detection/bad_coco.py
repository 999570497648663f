"""Annotation files with faults, made of those of `write_coco`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as rle_masks

TRAIN, VAL = (f'annotations/instances_{split}2017.json' for split in ('train', 'val'))


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def evaluable(content: dict[str, Any]) -> None:
    """The same without the polygon of two points, on which pycocotools would fail."""
    messy(content)
    content['annotations'] = [
        row for row in content['annotations'] if row['segmentation'] != [[8, 8, 20, 20]]
    ]


def messy(content: dict[str, Any]) -> None:
    """Every fault that a run goes on with; image 0 keeps an object, 1 to 3 lose theirs."""
    content['categories'].append(dict(id=999, name='unicorn'))
    person, car = content['annotations'][:2]
    mask = np.zeros((96, 128), np.uint8, 'F')
    mask[40:80, 64:112] = 1
    compressed = rle_masks.encode(mask)
    car['segmentation'] = dict(size=[96, 128], counts=compressed['counts'].decode())
    kept = [
        person,
        car,
        dict(person, bbox=[8, 8, 0.5, 64], area=32),
        dict(person, bbox=[200, 8, 30, 30]),
        dict(person, category_id=999),
        dict(person, segmentation=[[8, 8, 20, 20]]),
        dict(person, image_id=12345),
        # image 1: a crowd alone, as uncompressed RLE; image 2: a unicorn alone; image 3: none
        dict(
            person,
            image_id=1,
            iscrowd=1,
            segmentation=dict(size=[96, 128], counts=[96 * 8, 96 * 32, 96 * 88]),
        ),
        dict(person, image_id=2, category_id=999),
    ]
    content['annotations'] = [
        dict(annotation, id=number) for number, annotation in enumerate(kept, start=1)
    ]
