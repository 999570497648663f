"""Files of predictions: what a result becomes on disk, and the tables of all of them together.

==============  ==================================================================================
segmentation    ``masks/NAME.png``, of the values that the data set's own label maps have
detection       ``detections.json``, COCO's tables with a score for each annotation
panoptic        ``panoptic/NAME.png`` and ``panoptic.json``, COCO's panoptic format
depth           ``depth/NAME.png``, 16 bits, in millimeters (65,535 for anything beyond)
image           ``classes.csv``, the five best classes of each image
==============  ==================================================================================

All but the last come with ``overlays/NAME.jpg``.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from moca.detection.panoptic_file import id_colors
from moca.images.transforms import Pixels
from moca.predict.results import (
    Depth,
    Detections,
    Panoptic,
    Result,
    Segmentation,
)
from moca.predict.trained import Trained
from moca.records.whole_files import write_atomically

MILLIMETERS = 1000
_FARTHEST = 2**16 - 1
_BEST = 5  # classes of an image in the table


def write_result(folder: Path, name: str, result: Result, trained: Trained) -> list[dict[str, Any]]:
    """Write what a result has in files of its own, and return its rows of the table.

    Args:
        folder: Of all results.
        name: Of this one.
        result: What was predicted.
        trained: What predicted it.
    """
    if isinstance(result, Segmentation):
        write_png(
            folder / 'masks' / f'{name}.png',
            label_map(result.mask, trained.values or range(len(trained.classes))),
        )
        return []
    if isinstance(result, Depth):
        levels = np.clip(np.rint(result.meters * MILLIMETERS), 0, _FARTHEST).astype(np.uint16)
        write_png(folder / 'depth' / f'{name}.png', levels)
        return []
    if isinstance(result, Panoptic):
        colors = id_colors(result.ids)
        write_png(folder / 'panoptic' / f'{name}.png', np.ascontiguousarray(colors[..., ::-1]))
        return panoptic_rows(result)
    if isinstance(result, Detections):
        return detection_rows(result)
    best = np.argsort(-result.scores, kind='stable')[:_BEST]
    return [
        {'label': int(label), 'class': result.classes[label], 'score': float(result.scores[label])}
        for label in best
    ]


def label_map(mask: NDArray[np.int64], values: Sequence[int]) -> NDArray[Any]:
    """A map ``[H, W]`` of the value of each class, uint8 or, of values beyond 255, uint16."""
    table = np.array(values)
    return table[mask].astype(np.uint8 if table.max() < 256 else np.uint16)


def write_png(path: Path, values: NDArray[Any]) -> None:
    """Write gray or BGR values so that the file appears whole or not at all."""
    write_atomically(path, cv2.imencode('.png', values)[1].tobytes())


def write_jpeg(path: Path, image: Pixels) -> None:
    """Write an RGB image so that the file appears whole or not at all."""
    bgr = np.ascontiguousarray(image[..., ::-1])
    write_atomically(path, cv2.imencode('.jpg', bgr)[1].tobytes())


def detection_rows(found: Detections) -> list[dict[str, Any]]:
    """The objects as COCO has them, but for the ids of image and annotation.

    Boxes are ``[left, top, width, height]``; masks are run-length encoded by pycocotools.
    """
    from pycocotools import mask as mask_utils

    rows: list[dict[str, Any]] = []
    for number, (box, label, score) in enumerate(
        zip(found.boxes.tolist(), found.labels.tolist(), found.scores.tolist(), strict=True)
    ):
        left, top, right, bottom = (round(value, 3) for value in box)
        sides = [round(right - left, 3), round(bottom - top, 3)]
        row = dict(label=label, bbox=[left, top, *sides], score=round(score, 5), iscrowd=0)
        row['area'] = round(sides[0] * sides[1], 3)
        if found.masks is not None:
            code = mask_utils.encode(np.asfortranarray(found.masks[number], np.uint8))
            row['segmentation'] = {'size': code['size'], 'counts': code['counts'].decode()}
            row['area'] = float(mask_utils.area(code))
        rows.append(row)
    return rows


def panoptic_rows(found: Panoptic) -> list[dict[str, Any]]:
    """The ``segments_info`` of COCO's panoptic format, with labels in the place of categories."""
    rows = []
    for segment in found.segments:
        ys, xs = np.nonzero(found.ids == segment.id)
        left, top = int(xs.min()), int(ys.min())
        box = [left, top, int(xs.max()) + 1 - left, int(ys.max()) + 1 - top]
        rows.append(dict(id=segment.id, label=segment.label, area=len(xs), bbox=box, iscrowd=0))
    return rows


def write_tables(folder: Path, records: Sequence[dict[str, Any]], trained: Trained) -> Path | None:
    """Write the table of all images, and return its path; None of a task that has none.

    Args:
        folder: Of all results.
        records: One an image: ``file_name``, ``name``, ``height``, ``width`` and ``rows``.
        trained: What predicted them.
    """
    if trained.task == 'image':
        return write_classes(folder / 'classes.csv', records)
    if trained.task not in ('detection', 'panoptic'):
        return None
    ids = category_ids(trained)
    categories: list[dict[str, Any]] = [
        {'id': key, 'name': name} for key, name in zip(ids, trained.classes, strict=True)
    ]
    images, annotations = [], []
    for number, record in enumerate(records, start=1):
        sides = {side: record[side] for side in ('height', 'width')}
        images.append({'id': number, 'file_name': record['file_name'], **sides})
        rows = [
            {**{k: v for k, v in row.items() if k != 'label'}, 'category_id': ids[row['label']]}
            for row in record['rows']
        ]
        if trained.task == 'panoptic':
            about = {'image_id': number, 'file_name': f'{record["name"]}.png'}
            annotations.append({**about, 'segments_info': rows})
            continue
        for row in rows:
            annotations.append({'id': len(annotations) + 1, 'image_id': number, **row})
    path = folder / 'detections.json'
    if trained.task == 'panoptic':
        path = folder / 'panoptic.json'
        for label, category in enumerate(categories):
            category['isthing'] = int(label < trained.things)
    content = {'images': images, 'annotations': annotations, 'categories': categories}
    write_atomically(path, json.dumps(content).encode())
    return path


def write_classes(path: Path, records: Sequence[dict[str, Any]]) -> Path:
    """Write a row for each image: file, then class and score of the best, of the second, and on."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator='\n')
    count = max((len(record['rows']) for record in records), default=0)
    places = range(1, count + 1)
    table.writerow(['file', *(f'{what}{n}' for n in places for what in ('class', 'score'))])
    for record in records:
        cells = [(row['class'], f'{row["score"]:.5f}') for row in record['rows']]
        table.writerow([record['file_name'], *(cell for pair in cells for cell in pair)])
    write_atomically(path, text.getvalue().encode())
    return path


def category_ids(trained: Trained) -> list[Any]:
    """The id of each class in the annotation file of the data set if that is there, else from 1.

    COCO's own go up to 90 for 80 classes; whoever scores the predictions needs them.
    """
    dataset = trained.dataset
    path = Path(dataset.get('data_root') or '') / (dataset.get('ann_file') or '')
    if path.is_file() and path.suffix == '.json':
        try:
            rows = json.loads(path.read_bytes())['categories']
            known = {row['name']: row['id'] for row in rows}
        except (OSError, ValueError, KeyError, TypeError):
            known = {}
        if all(name in known for name in trained.classes):
            return [known[name] for name in trained.classes]
    return list(range(1, len(trained.classes) + 1))
