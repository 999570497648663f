"""Windows along the long side of an image, and what is made of their scores."""

from __future__ import annotations

import mmcv
import pytest
import torch

from moca.eomt.windows import class_scores, merge, window_starts, windows_of
from moca.errors import UserError


@pytest.mark.parametrize(
    ('length', 'size', 'starts'),
    [
        (683, 512, [0, 171]),
        (512, 512, [0]),
        (1024, 512, [0, 512]),
        (1025, 512, [0, 256, 513]),
        (2048, 1024, [0, 1024]),
    ],
)
def test_windows_are_evenly_spaced(length: int, size: int, starts: list[int]) -> None:
    assert window_starts(length, size) == starts
    assert starts[-1] + size == length


def test_windows_follow_the_long_side() -> None:
    tall, wide = windows_of((683, 512), 512), windows_of((512, 683), 512)
    assert [rows.start for rows, _ in tall] == [columns.start for _, columns in wide] == [0, 171]
    assert all(columns == slice(0, 512) for _, columns in tall)
    with pytest.raises(
        UserError, match=r'300 x 400 pixels for windows of 512.*scale=\(100000, 512'
    ):
        windows_of((300, 400), 512)


def test_images_are_resized_by_their_short_side() -> None:
    """The scale of the configs' test pipelines."""
    assert mmcv.rescale_size((683, 512), (100_000, 256)) == (342, 256)
    assert mmcv.rescale_size((512, 683), (100_000, 256)) == (256, 342)


def test_crops_are_scaled_by_the_long_side() -> None:
    """The jitter of the configs: at ratio 1 an image of 2:1 gets as wide as the crop."""
    assert mmcv.rescale_size((2048, 1024), (512, 512)) == (512, 256)


def test_scores_are_sums_over_queries() -> None:
    masks, classes = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 6)
    found = class_scores(masks, classes, (4, 4))
    assert found.shape == (2, 5, 4, 4)
    for b, c, y, x in ((0, 0, 0, 0), (1, 4, 2, 3)):
        terms = [classes[b, q].softmax(0)[c] * masks[b, q, y, x].sigmoid() for q in range(3)]
        torch.testing.assert_close(found[b, c, y, x], sum(terms))


def test_overlapping_windows_are_averaged() -> None:
    windows = windows_of((4, 6), 4)
    assert [columns.start for _, columns in windows] == [0, 2]
    merged = merge([torch.full((1, 4, 4), 1.0), torch.full((1, 4, 4), 3.0)], windows)
    assert merged[0].tolist() == [[1, 1, 2, 2, 3, 3]] * 4
