"""Mean intersection over union from a confusion matrix, by the rules in use.

Sources: open-hummingbird-eval 2.0.0 (Hungarian matching, mean over all classes) and
facebookresearch/capi (scikit-learn's macro Jaccard score).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from moca.evaluation.dense.patch_labels import is_any

FLOOR = 1e-8
"""Smallest denominator of an IoU, as in open-hummingbird-eval: an absent class has IoU 0."""


class Confusion:
    """Counts of pixels by true and predicted class.

    Args:
        num_classes: C.
        ignored: True labels that do not count.

    Attributes:
        counts: ``[C, C]`` int64; rows are true classes.
    """

    def __init__(self, num_classes: int, ignored: Sequence[int]) -> None:
        self.num_classes, self.ignored = num_classes, tuple(ignored)
        self.counts: NDArray[np.int64] = np.zeros((num_classes, num_classes), np.int64)

    def add(self, truth: Tensor, prediction: Tensor) -> None:
        """Count the pixels of label maps of equal shape, as integers of 0 to C - 1."""
        counted = ~is_any(truth, self.ignored)
        places = truth[counted].long() * self.num_classes + prediction[counted].long()
        found = torch.bincount(places, minlength=self.num_classes**2).cpu().numpy()
        self.counts += found.reshape(self.counts.shape)


def iou_matrix(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """IoU of every true class (rows) with every predicted one ``[C, C]``."""
    union = counts.sum(1)[:, None] + counts.sum(0)[None] - counts
    return counts / np.maximum(union, FLOOR)


def miou_identity(counts: NDArray[np.int64]) -> float:
    """mIoU in percent over all classes; one that is neither true nor predicted counts as 0."""
    return 100 * float(iou_matrix(counts).diagonal().mean())


def miou_present(counts: NDArray[np.int64]) -> float:
    """mIoU in percent over the classes that the truth contains; NaN if there are none."""
    present = counts.sum(1) > 0
    values = iou_matrix(counts).diagonal()[present]
    return 100 * float(values.mean()) if present.any() else float('nan')


def miou_occurring(counts: NDArray[np.int64]) -> float:
    """mIoU in percent over the classes in truth or prediction; NaN if there are none.

    That is ``sklearn.metrics.jaccard_score(average='macro')``.
    """
    occurring = counts.sum(0) + counts.sum(1) > 0
    values = iou_matrix(counts).diagonal()[occurring]
    return 100 * float(values.mean()) if occurring.any() else float('nan')


def hungarian(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The true class that each predicted one is taken for, so that the sum of IoU is largest."""
    true, predicted = linear_sum_assignment(iou_matrix(counts), maximize=True)
    mapping = np.empty(len(counts), np.int64)
    mapping[predicted] = true
    return mapping


def miou_hungarian(counts: NDArray[np.int64]) -> float:
    """mIoU in percent over all classes after `hungarian`; the published column of in-context.

    It does not notice when two classes are exchanged: compare it with `miou_present`.
    """
    mapping = hungarian(counts)
    matched = iou_matrix(counts)[mapping, np.arange(len(counts))]
    return 100 * float(matched.mean())


def pixel_accuracy(counts: NDArray[np.int64]) -> float:
    """Share of pixels in percent that are right; NaN without pixels."""
    total = counts.sum()
    return 100 * float(counts.trace() / total) if total else float('nan')
