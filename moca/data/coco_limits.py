"""How many objects of an image a detector gives and COCO's metric counts, and what that costs."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from mmengine.config import Config

from moca.data.coco import OBJECT, CocoFile, kind_of

# Detections of a class in an image that COCO's AP counts: pycocotools, cocoeval.py, maxDets.
COUNTED = 100
# Recalls at which precision is measured: cocoeval.py, recThrs.
_RECALLS = np.linspace(0, 1, 101)


def limits_note(cfg: Config, file: CocoFile) -> str | None:
    """Say what AP can reach at most where images have more objects than are found or counted.

    A model gives ``max_per_img`` detections of all classes together; without one, the metric's own
    limit holds. The bound on AP is that of a detector which finds as many as it may, and nothing
    else: the precision is 1 up to the recall that it reaches.
    """
    given = _most_detections(cfg)
    images = {image['id']: image for image in file.images}
    objects: Counter[tuple[int, int]] = Counter()
    for row in file.annotations:
        image = images.get(row['image_id'])
        if image is not None and kind_of(row, image, file.known) == OBJECT:
            objects[row['image_id'], row['category_id']] += 1
    totals: Counter[int] = Counter()
    counted: Counter[int] = Counter()
    for (image_id, _), count in objects.items():
        totals[image_id] += count
        counted[image_id] += min(count, COUNTED)
    full = [key for key, count in totals.items() if min(counted[key], given) < count]
    if not full:
        return None
    found = sum(min(count, given) for count in counted.values()) / totals.total()
    return (
        f'{len(full):,} images have more objects than can be found, up to '
        f'{max(totals.values()):,}: the model gives {given} detections an image (max_per_img of '
        f'model.test_cfg), and COCO counts the best {COUNTED} of a class. At most {found:.1%} of '
        f'the objects can be found, and mAP can reach {_reachable(objects, given):.1%}'
    )


def _most_detections(cfg: Config) -> int:
    test: Any = (cfg.get('model') or {}).get('test_cfg') or {}
    given = (test.get('rcnn') or test).get('max_per_img')
    return given if isinstance(given, int) and given > 0 else COUNTED


def _reachable(objects: Counter[tuple[int, int]], given: int) -> float:
    """The mean over classes of the share of recalls that are reached."""
    shares = []
    for category in {category for _, category in objects}:
        counts = [count for (_, other), count in objects.items() if other == category]
        recall = sum(min(count, given, COUNTED) for count in counts) / sum(counts)
        shares.append(float((recall + 1e-9 >= _RECALLS).mean()))
    return float(np.mean(shares))
