"""LOST on features whose similarities are made by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from moca.evaluation.dense.lost import (
    box_around,
    centered_box,
    discover,
    located,
    overlaps,
    whole_box,
)

PATCH = 16


def hand_made() -> Tensor:
    """A 6 x 6 grid ``[D, 6, 6]``: a background, and an object that joins by sides and a corner.

    Background patches share a direction. The object's share another one, away from the
    background: cells (1, 1), (1, 2), (2, 1), (2, 2), and (3, 3), which touches (2, 2) by a corner.
    """
    cells = torch.zeros(6, 6, dtype=torch.bool)
    cells[1:3, 1:3] = True
    cells[3, 3] = True
    maps = torch.zeros(2, 6, 6)
    maps[0][~cells] = 1.0
    maps[1][cells] = 1.0
    maps[0][cells] = -0.1
    return maps


def test_degrees_seed_and_box_by_hand() -> None:
    found = discover(hand_made(), (96, 96), PATCH)
    # 31 background patches correlate with 30 others, the object's 5 with 4 others
    assert found.degrees[0, 0] == 30
    assert found.degrees[1, 1] == found.degrees[3, 3] == 4
    assert found.seed == (1, 1)
    # (3, 3) has a positive sum as well, but joins by a corner only
    assert found.scores[3, 3] > 0
    assert found.box == (16, 16, 48, 48)


def test_connectivity_through_sides_only() -> None:
    found = discover(hand_made(), (96, 96), PATCH)
    mask = found.scores.numpy() > 0
    eight, _ = ndimage.label(mask, np.ones((3, 3)))
    assert eight[3, 3] == eight[1, 1]  # a mistake that would give 64 for 48


def test_features_are_not_brought_to_unit_length() -> None:
    maps = torch.cat([hand_made(), torch.zeros(1, 6, 6)])
    # a short feature beside the object, against one of its cells by a long third component
    maps[:, 1, 2] = torch.tensor([-0.1, 1.0, 6.0])
    maps[:, 1, 3] = torch.tensor([0.0, 1.0, -0.9])
    found = discover(maps, (96, 96), PATCH)
    scaled = discover(torch.nn.functional.normalize(maps, dim=0), (96, 96), PATCH)
    assert (found.scores[1, 3] > 0) != (scaled.scores[1, 3] > 0)
    assert found.box != scaled.box


def test_only_some_patches_of_low_degree_may_join() -> None:
    found = discover(hand_made(), (96, 96), PATCH, candidates=2)
    assert found.joined.tolist() == [7, 8]
    everything = discover(hand_made(), (96, 96), PATCH)
    assert everything.joined.tolist() == [7, 8, 13, 14, 21]


def test_against_brute_force() -> None:
    generator = torch.Generator().manual_seed(5)
    maps = torch.randn(8, 5, 7, generator=generator)
    found = discover(maps, (80, 100), PATCH, candidates=12)
    tokens = maps.flatten(1).T
    count = len(tokens)
    similar = [[float(tokens[i] @ tokens[j]) for j in range(count)] for i in range(count)]
    degrees = [sum(similar[i][j] > 0 for j in range(count) if j != i) for i in range(count)]
    order = sorted(range(count), key=lambda i: (degrees[i], i))
    seed = order[0]
    joined = [i for i in order[:12] if similar[seed][i] > 0]
    sums = np.array([sum(similar[i][j] for i in joined) for j in range(count)])
    assert found.degrees.flatten().tolist() == degrees
    assert found.seed == divmod(seed, 7)
    np.testing.assert_allclose(found.scores.flatten().numpy(), sums, rtol=1e-5, atol=1e-4)
    reached, waiting = {seed}, [seed]
    while waiting:
        row, column = divmod(waiting.pop(), 7)
        for i, j in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
            if 0 <= i < 5 and 0 <= j < 7 and sums[i * 7 + j] > 0 and i * 7 + j not in reached:
                reached.add(i * 7 + j)
                waiting.append(i * 7 + j)
    rows, columns = zip(*(divmod(i, 7) for i in reached), strict=True)
    right, lower = min((max(columns) + 1) * PATCH, 100), min((max(rows) + 1) * PATCH, 80)
    assert found.box == (min(columns) * PATCH, min(rows) * PATCH, right, lower)


def test_the_box_is_cut_off_at_the_image() -> None:
    mask = np.ones((3, 4), bool)
    assert box_around(mask, (0, 0), (40, 50), PATCH) == (0, 0, 50, 40)
    assert box_around(~mask, (1, 2), (40, 50), PATCH) == (32, 16, 48, 32)


def test_overlaps_by_hand() -> None:
    box = (10.0, 10.0, 20.0, 20.0)
    others = np.array([[10, 10, 20, 20], [15, 10, 25, 20], [30, 30, 40, 40]], float)
    np.testing.assert_allclose(overlaps(box, others), [1, 50 / 150, 0])
    assert located(box, others)
    assert not located(box, others[1:])
    # half is enough
    assert located((0.0, 0.0, 10.0, 10.0), np.array([[0.0, 0.0, 10.0, 5.0]]))
    assert not located(box, np.empty((0, 4)))


def test_the_two_baselines() -> None:
    assert whole_box((100, 200)) == (0, 0, 200, 100)
    assert centered_box((100, 200)) == pytest.approx((30, 15, 170, 85))
