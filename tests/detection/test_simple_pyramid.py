"""The simple feature pyramid against ViTDet's formula, written out by hand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from moca.detection import SimpleFeaturePyramid
from moca.errors import UserError

WIDTH, OUT = 16, 8


def channel_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """detectron2's LayerNorm over channels: mean and biased variance at each place, eps 1e-6."""
    mean = x.mean(1, keepdim=True)
    variance = ((x - mean) ** 2).mean(1, keepdim=True)
    return weight[:, None, None] * (x - mean) / (variance + 1e-6).sqrt() + bias[:, None, None]


def by_hand(x: Tensor, parameters: Iterator[Tensor]) -> list[Tensor]:
    """Levels 4, 2, 1, 1/2 and the subsampled one, from parameters in order of use."""

    def take(count: int) -> list[Tensor]:
        return [next(parameters) for _ in range(count)]

    def up(x: Tensor) -> Tensor:
        return F.conv_transpose2d(x, *take(2), stride=2)

    def project(x: Tensor) -> Tensor:
        x = channel_norm(F.conv2d(x, *take(1)), *take(2))
        return channel_norm(F.conv2d(x, *take(1), padding=1), *take(2))

    levels = [
        project(up(F.gelu(channel_norm(up(x), *take(2))))),
        project(up(x)),
        project(x),
        project(F.max_pool2d(x, 2, 2)),
    ]
    return [*levels, levels[-1][:, :, ::2, ::2]]


def test_equals_the_published_formula() -> None:
    torch.manual_seed(0)
    neck = SimpleFeaturePyramid(WIDTH, OUT)
    for parameter in neck.parameters():  # no bias of 0 and no scale of 1 that could hide
        torch.nn.init.normal_(parameter)
    x = torch.randn(2, WIDTH, 6, 10)
    parameters = iter(neck.parameters())
    expected = by_hand(x, parameters)
    assert next(parameters, None) is None
    levels = neck((x,))
    assert [tuple(level.shape[2:]) for level in levels] == [
        (24, 40),
        (12, 20),
        (6, 10),
        (3, 5),
        (2, 3),
    ]
    for level, reference in zip(levels, expected, strict=True):
        torch.testing.assert_close(level, reference, rtol=1e-4, atol=1e-4)


def test_hands_on_full_precision() -> None:
    with torch.autocast('cpu', torch.bfloat16):
        levels = SimpleFeaturePyramid(WIDTH, OUT)((torch.randn(1, WIDTH, 4, 4),))
    assert {level.dtype for level in levels} == {torch.float32}
    assert all(level.is_contiguous() for level in levels)


def test_faults() -> None:
    with pytest.raises(UserError, match='in_channels=18'):
        SimpleFeaturePyramid(18)
    with pytest.raises(UserError, match=r'got 2.*out_indices'):
        SimpleFeaturePyramid(WIDTH)([torch.zeros(1, WIDTH, 2, 2)] * 2)
