"""Means of IoU: by hand, by brute force over assignments, and scikit-learn's."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score

from moca.evaluation.dense.confusion import (
    Confusion,
    iou_matrix,
    miou_hungarian,
    miou_identity,
    miou_occurring,
    miou_present,
    pixel_accuracy,
)


def counted(truth: list[int], prediction: list[int], classes: int, ignored: tuple[int, ...] = ()):
    confusion = Confusion(classes, ignored)
    confusion.add(torch.tensor(truth), torch.tensor(prediction))
    return confusion.counts


def test_rows_are_true_classes_and_ignored_ones_are_left_out() -> None:
    counts = counted([0, 1, 1, 2, 255], [0, 0, 1, 1, 1], 3, (2, 255))
    assert counts.tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 0]]


def test_three_pixels_by_hand() -> None:
    """Truth 1 1 2, prediction 1 2 0 of 4 classes: IoU of 1 is 1/2, of 2 and of 0 it is 0."""
    counts = counted([1, 1, 2], [1, 2, 0], 4)
    assert miou_present(counts) == pytest.approx(100 * 0.5 / 2)  # classes 1 and 2
    assert miou_occurring(counts) == pytest.approx(100 * 0.5 / 3)  # 0 is predicted
    assert miou_identity(counts) == pytest.approx(100 * 0.5 / 4)  # of all four
    assert pixel_accuracy(counts) == pytest.approx(100 / 3)


def test_without_pixels_there_is_no_mean() -> None:
    counts = counted([255], [1], 3, (255,))
    assert np.isnan([miou_present(counts), miou_occurring(counts), pixel_accuracy(counts)]).all()
    assert miou_identity(counts) == 0


def test_occurring_is_scikit_learns_macro_jaccard() -> None:
    random = np.random.default_rng(0)
    truth, prediction = random.integers(1, 6, 300), random.integers(0, 6, 300)
    counts = counted(truth.tolist(), prediction.tolist(), 9)
    wanted = jaccard_score(truth, prediction, average='macro')
    assert miou_occurring(counts) == pytest.approx(100 * wanted)


def test_the_matching_is_the_best_of_all() -> None:
    counts = np.random.default_rng(1).integers(0, 50, (5, 5))
    iou = iou_matrix(counts)
    best = max(
        np.mean([iou[t, p] for t, p in zip(order, range(5), strict=True)])
        for order in permutations(range(5))
    )
    assert miou_hungarian(counts) == pytest.approx(100 * best)
    assert miou_hungarian(counts) > miou_identity(counts)


def test_exchanged_classes_are_seen_by_the_identity_alone() -> None:
    truth = np.random.default_rng(2).integers(0, 4, 400)
    right = counted(truth.tolist(), truth.tolist(), 4)
    turned = counted(truth.tolist(), ((truth + 1) % 4).tolist(), 4)
    assert miou_hungarian(right) == miou_identity(right) == pytest.approx(100)
    assert miou_hungarian(turned) == pytest.approx(100)
    assert miou_identity(turned) == miou_present(turned) == 0
