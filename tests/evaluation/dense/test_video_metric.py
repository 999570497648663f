"""J and F on sequences made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from moca.errors import UserError
from moca.evaluation.dense.video_metric import (
    boundary,
    boundary_accuracy,
    davis_metrics,
    decay,
    object_count,
    region_similarity,
    score_video,
)


def square(top: int, left: int, side: int = 4, value: int = 1) -> NDArray[np.uint8]:
    labels = np.zeros((20, 24), np.uint8)
    labels[top : top + side, left : left + side] = value
    return labels


def test_the_first_and_the_last_frame_do_not_count() -> None:
    right, wrong = square(4, 4), square(12, 12)
    scores = score_video([right] * 4, [wrong, right, right, wrong])
    assert scores.regions.tolist() == [[1.0, 1.0]]
    assert scores.boundaries.tolist() == [[1.0, 1.0]]
    scores = score_video([right] * 4, [right, wrong, right, right])
    assert scores.regions.tolist() == [[0.0, 1.0]]


def test_region_similarity_by_hand() -> None:
    # 4 x 4 against the same two columns on: 8 in both, 24 in one of them
    assert region_similarity(square(4, 4) > 0, square(4, 6) > 0) == 8 / 24
    empty = np.zeros((20, 24), bool)
    assert region_similarity(empty, empty) == 1.0
    assert region_similarity(empty, square(4, 4) > 0) == 0.0


def test_boundaries_by_hand() -> None:
    mask = np.zeros((4, 5), bool)
    mask[1:3, 1:3] = True
    # what differs from its right, lower or lower right neighbor
    expected = np.array([[1, 1, 1, 0, 0], [1, 0, 1, 0, 0], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0]], bool)
    assert (boundary(mask) == expected).all()
    corner = np.zeros((3, 3), bool)
    corner[2, 2] = True
    # in the last row and column only along it; the corner itself is none
    assert (boundary(corner) == np.array([[0, 0, 0], [0, 1, 1], [0, 1, 0]], bool)).all()


def test_a_boundary_within_the_tolerance_is_right() -> None:
    truth = np.zeros((480, 854), bool)  # tolerance: .008 of the diagonal is 7.84, so 8 pixels
    truth[100:300, 200:500] = True
    assert boundary_accuracy(truth, np.roll(truth, 8, 1)) == 1.0
    assert boundary_accuracy(truth, np.roll(truth, 9, 1)) < 0.7
    empty = np.zeros_like(truth)
    assert boundary_accuracy(empty, empty) == 1.0
    assert boundary_accuracy(truth, empty) == boundary_accuracy(empty, truth) == 0.0


def test_void_is_background() -> None:
    truth = square(4, 4)
    truth[4:8, 8:12] = 255
    found = square(4, 4)
    found[4:8, 8:12] = 1
    scores = score_video([square(4, 4), truth, truth], [square(4, 4), found, found])
    assert scores.regions.tolist() == [[0.5]]
    assert object_count(truth) == 1


def test_the_mean_is_over_objects_not_over_videos() -> None:
    two = square(2, 2) + square(10, 10, value=2)
    one = square(2, 2)
    videos = [
        score_video([two] * 3, [two, one, two]),  # object 1 right, object 2 missed
        score_video([one] * 3, [one, one, one]),
    ]
    metrics = davis_metrics(videos)
    assert metrics['J'] == pytest.approx(200 / 3)  # over videos it would be 75
    assert metrics['J&F'] == pytest.approx((metrics['J'] + metrics['F']) / 2)
    assert metrics['J_recall'] == pytest.approx(200 / 3)


def test_later_objects_are_background_and_too_many_predicted_ones_are_an_error() -> None:
    first, later = square(2, 2), square(2, 2) + square(10, 10, value=2)
    scores = score_video([first, later, later], [first, first, first])
    assert scores.regions.tolist() == [[1.0]]
    with pytest.raises(UserError, match='2 objects were predicted, but its first frame has 1'):
        score_video([first] * 3, [first, later, first], 'cows')
    score_video([first] * 3, [later, first, later])  # frames that do not count


def test_an_object_that_is_missed_in_between_has_an_empty_mask() -> None:
    gap = square(2, 2) + square(10, 10, value=3)
    scores = score_video([gap] * 3, [gap, gap, gap])
    assert scores.regions.tolist() == [[1.0], [1.0], [1.0]]


def test_decay_by_hand() -> None:
    values = np.linspace(0.9, 0.1, 9)
    # quarters of 9 frames share frames: the first is 1 to 3, the last 7 to 9
    assert decay(values) == pytest.approx(values[:3].mean() - values[6:].mean())
    assert decay(np.array([0.5])) == 0.0


def test_a_video_of_two_frames_has_no_frame_that_counts() -> None:
    scores = score_video([square(2, 2)] * 2, [square(2, 2)] * 2)
    assert scores.regions.shape == (1, 0)
