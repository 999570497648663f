"""Panoptic quality (PQ), as COCO defines it.

Kirillov et al., Panoptic Segmentation (arXiv 1801.00868), section 4; rules of void and crowds as in
COCO's evaluation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmdet.structures import INSTANCE_OFFSET
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS
from numpy.typing import NDArray

from moca.detection.panoptic_file import VOID, read_ids

IOU, TP, FP, FN = range(4)
"""Columns of what is counted for each class: the sum of IoU over matches, and three numbers."""

_MATCH = 0.5
"""Segments of an IoU above it match: there is at most one such pair."""


def count_matches(
    truth: NDArray[np.integer],
    truth_labels: Sequence[int],
    crowds: Sequence[bool],
    found: NDArray[np.integer],
    found_labels: Sequence[int],
    num_classes: int,
) -> NDArray[np.float64]:
    """Match the segments of one image.

    Args:
        truth: Which true segment each pixel belongs to, ``[H, W]`` from 0; -1 is void.
        truth_labels: Class of each of them.
        crowds: Whether each stands for several objects: it matches nothing and is not missed.
        found: The same of the prediction.
        found_labels: Class of each predicted segment.
        num_classes: Of the data set.

    Returns:
        For each class sum of IoU, true positives, false positives and false negatives,
        ``[num_classes, 4]``. A segment without pixels counts for nothing.
    """
    rows, columns = len(truth_labels) + 1, len(found_labels) + 1
    pairs = (truth.astype(np.int64) + 1) * columns + found + 1
    counted = np.bincount(pairs.ravel(), minlength=rows * columns)
    common: Any = counted.reshape(rows, columns)
    true_area, found_area = common.sum(1)[1:], common.sum(0)[1:]
    void, common = common[0, 1:], common[1:, 1:]
    true_class, found_class = (np.asarray(each, np.int64) for each in (truth_labels, found_labels))
    crowd = np.asarray(crowds, bool)
    same = true_class[:, None] == found_class
    union = true_area[:, None] + (found_area - void) - common
    iou = np.where(same & ~crowd[:, None], common / np.maximum(union, 1), 0.0)
    matched = iou > _MATCH
    # what is mostly void, or mostly a crowd of its own class, is no false positive
    excused = void + (common * (same & crowd[:, None])).sum(0)
    wrong = ~matched.any(0) & (found_area > 0) & (excused <= 0.5 * found_area)
    missed = ~matched.any(1) & (true_area > 0) & ~crowd
    counts = np.zeros((num_classes, 4))
    for column, labels, values in (
        (IOU, found_class, (iou * matched).sum(0)),
        (TP, found_class, matched.any(0)),
        (FP, found_class, wrong),
        (FN, true_class, missed),
    ):
        np.add.at(counts[:, column], labels, values)
    return counts


def quality(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """PQ, SQ and RQ of each class, ``[num_classes, 3]``; NaN where `count_matches` found none."""
    total, tp, fp, fn = counts.T
    with np.errstate(divide='ignore', invalid='ignore'):
        recognition = tp / (tp + fp / 2 + fn / 2)
        segmentation = np.where(tp > 0, total / tp, 0.0)
    segmentation = np.where(np.isnan(recognition), np.nan, segmentation)
    return np.stack([segmentation * recognition, segmentation, recognition], axis=1)


@METRICS.register_module()
class PanopticQuality(BaseMetric):
    """PQ, SQ and RQ over all classes, and over things and stuff (``PQ_th``, ``PQ_st``, ...).

    Means of classes that occur in the truth or in a prediction, as COCO's; as fractions under
    ``coco/``, as mmdet's own metrics. Truth is read at the images' own size, so the pipeline has to
    pass on ``seg_map_path`` and ``segments``.
    """

    default_prefix = 'coco'

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Count the matches of some images."""
        number = len(self.dataset_meta['classes'])
        for sample in data_samples:
            ids = read_ids(sample['seg_map_path'])
            segments = sample['segments']
            truth = places_of(ids, [key for key, _, _ in segments])
            labels, crowds = [row[1] for row in segments], [row[2] for row in segments]
            found = np.asarray(sample['pred_panoptic_seg']['sem_seg'][0].cpu())
            values = np.unique(found)
            values = values[values % INSTANCE_OFFSET < number]
            places = places_of(found, values.tolist(), none=-1)
            found_labels = (values % INSTANCE_OFFSET).tolist()
            counts = count_matches(truth, labels, crowds, places, found_labels, number)
            self.results.append(counts)

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Sum over images, and take the means."""
        table = quality(np.sum(results, axis=0))
        things = len(self.dataset_meta.get('thing_classes') or ())
        parts = {'': slice(None), '_th': slice(0, things), '_st': slice(things, None)}
        metrics = {}
        for suffix, part in parts.items():
            known = table[part][~np.isnan(table[part, 0])]
            for place, name in enumerate(('PQ', 'SQ', 'RQ')):
                value = float(known[:, place].mean()) if len(known) else math.nan
                metrics[f'{name}{suffix}'] = value
        return metrics


def places_of(
    values: NDArray[np.integer], listed: Sequence[int], none: int = VOID
) -> NDArray[np.int64]:
    """The place in a list of every pixel's value; -1 of those that it has not, and of `none`."""
    order = np.argsort(np.asarray(listed, np.int64), kind='stable')
    ranked = np.asarray(listed, np.int64)[order]
    at = np.searchsorted(ranked, values)
    at = np.minimum(at, max(len(ranked) - 1, 0))
    if not len(ranked):
        return np.full(values.shape, -1, np.int64)
    return np.where((ranked[at] == values) & (values != none), order[at], -1)
