"""Keypoints found by features, on maps where the answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from moca.evaluation.dense.correspondence import (
    ALIGNS,
    drawn,
    errors,
    in_both,
    match,
    on_square,
    recall,
)
from moca.evaluation.dense.spair_data import keypoints_of, threshold_scale
from moca.evaluation.dense.square_padding import pad_to_patches, patch_margin, square_tensor


def test_keypoints_are_scaled_by_the_larger_side_and_cut_off() -> None:
    points = np.array([[41.0, 51.0, 1], [10.0, 99.0, 0]])
    assert on_square(points, 118, 160).tolist() == [[55, 69, 1], [0, 0, 0]]


def test_keypoints_in_the_order_of_their_numbers() -> None:
    points = keypoints_of({'10': [7, 8], '2': None, '0': [1, 2]})
    assert points.tolist() == [[1, 2, 1], [0, 0, 0], [7, 8, 1]]


def test_only_keypoints_in_both_images_and_the_box_of_the_target() -> None:
    source = np.array([[1, 1, 1], [2, 2, 1], [3, 3, 0]])
    target = np.array([[10, 0, 1], [0, 0, 0], [30, 0, 1]])
    assert in_both(source, target).tolist() == [0]
    # box of 40 x 20 in an image of 100 x 80: .4 of the larger side
    scale = threshold_scale((10, 10, 50, 30), (100, 80, 3))
    assert scale == 0.4
    places = torch.tensor([[0.1, 0.0], [0.13, 0.0], [0.1, 0.05]])
    found = errors(places, np.array([[10, 0, 1]] * 3), 100, scale)
    np.testing.assert_allclose(found, [0, 0.03 / 0.4, 0.05 / 0.4], atol=1e-6)


def test_recall_counts_points_not_pairs() -> None:
    # pairs of 2 and 3 keypoints: right are both of the first and one of the second
    found = [np.array([0.0, 0.05]), np.array([0.099, 0.1, 0.5])]
    assert recall(found) == pytest.approx(60.0)  # the mean over pairs would be 66.7
    assert recall([]) is None


def test_the_order_of_files_decides_nothing() -> None:
    names = [f'{number:06}' for number in range(12)]
    assert drawn(names, 5) == drawn(sorted(reversed(names)), 5)
    assert len(set(drawn(names, 5))) == 5
    assert drawn(names, 50) != names
    assert sorted(drawn(names, 50)) == names


@pytest.mark.parametrize('align', ALIGNS)
def test_a_pair_of_twice_the_same_image_is_found(align: str) -> None:
    grid, size = 6, 96
    maps = torch.eye(grid * grid).view(-1, grid, grid)
    points = torch.tensor([[8, 8], [40, 8], [88, 72]])
    if align == 'probe3d':  # where its interpolation meets cells: corners on their centers
        points = torch.tensor([[0, 0], [38, 0], [95, 77]])
    if align == 'pixels':  # an enlarged map is constant from the outermost centers on
        points = torch.tensor([[24, 24], [40, 56], [72, 56]])
    places, _ = match(maps, maps, points, size, 0, align)  # type: ignore[arg-type]
    assert ((places * size - points).abs().amax(1) < 16).all()
    if align == 'centered':
        torch.testing.assert_close(places * size, points.float())
    if align == 'pixels':  # four pixels around a center are as good as each other
        assert ((places * size - points).abs() <= 1).all()


def test_a_mirrored_pair_has_a_mirrored_answer() -> None:
    maps = torch.eye(16).view(16, 4, 4)
    points = torch.tensor([[8, 40], [56, 24]])
    places, cells = match(maps, maps.flip(2), points, 64, 0, 'centered')
    torch.testing.assert_close(places * 64, torch.tensor([[56.0, 40.0], [8.0, 24.0]]))
    assert cells.tolist() == [11, 4]
    places, _ = match(maps, maps.flip(2), points, 64, 0, 'probe3d')
    torch.testing.assert_close(places * 64, torch.tensor([[48.0, 32.0], [0.0, 16.0]]))


def test_padding_to_patches_shifts_the_map() -> None:
    # images of 20 pixels in patches of 8 are padded by 2 on each side: 24 pixels, 3 x 3 cells
    assert patch_margin(20, 8) == 2
    assert patch_margin(800, 14) == 6
    padded = pad_to_patches(torch.ones(1, 3, 20, 20), 8)
    assert padded.shape == (1, 3, 24, 24)
    assert padded[0, 0, 0].sum() == 0
    assert padded[0, 0, 2, 2:22].sum() == 20
    maps = torch.eye(9).view(9, 3, 3)
    # the middle cell's center is pixel 12 of the padded image, and 10 of the image
    places, cells = match(maps, maps, torch.tensor([[10, 10]]), 20, 2, 'centered')
    assert cells.tolist() == [4]
    torch.testing.assert_close(places * 20, torch.tensor([[10.0, 10.0]]))
    places, _ = match(maps, maps, torch.tensor([[10, 10]]), 20, 2, 'pixels')
    assert (places * 20 - 10).abs().max() <= 1
    # and probe3d takes no account of the padding
    places, _ = match(maps, maps, torch.tensor([[10, 10]]), 20, 2, 'probe3d')
    torch.testing.assert_close(places, torch.tensor([[1 / 3, 1 / 3]]))


def test_probe3d_interpolates_with_corners_on_centers() -> None:
    generator = torch.Generator().manual_seed(0)
    source = F.normalize(torch.randn(5, 4, 4, generator=generator), dim=0)
    target = F.normalize(torch.randn(5, 4, 4, generator=generator), dim=0)
    for x, y in ((7, 13), (0, 31), (22, 22)):
        column, row = x / 32 * 3, y / 32 * 3
        left, top = min(math.floor(column), 2), min(math.floor(row), 2)
        a, b = column - left, row - top
        corners = source[:, top : top + 2, left : left + 2]
        asked = (1 - b) * ((1 - a) * corners[:, 0, 0] + a * corners[:, 0, 1])
        asked = asked + b * ((1 - a) * corners[:, 1, 0] + a * corners[:, 1, 1])
        best = (asked[:, None, None] * target).sum(0).flatten().argmax().item()
        _, cells = match(source, target, torch.tensor([[x, y]]), 32, 0, 'probe3d')
        assert cells.tolist() == [best]


def test_images_are_padded_with_white_on_the_right_and_below() -> None:
    image = np.zeros((8, 16, 3), np.uint8)
    square = square_tensor(image, 16, (0.0,) * 3, (1.0,) * 3)
    assert square.shape == (3, 16, 16)
    assert square[:, :7].max() == 0
    assert square[:, 9:].min() == 1
