"""iBOT's pyramid against its operations, written out by hand."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moca.detection import RescaledFPN

WIDTH, OUT = 12, 8
SIZES = [(24, 40), (12, 20), (6, 10), (3, 5), (2, 3)]


def make_inputs() -> tuple[Tensor, ...]:
    return tuple(torch.randn(4, 2, WIDTH, 6, 10).unbind())


def make_neck(**options: object) -> RescaledFPN:
    torch.manual_seed(0)
    neck = RescaledFPN(WIDTH, OUT, **options)  # type: ignore[arg-type]
    for parameter in neck.parameters():  # no bias of 0 and no scale of 1 that could hide
        nn.init.normal_(parameter)
    return neck.train()


def by_hand(neck: RescaledFPN, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """register_backbone.py's fpn1 to fpn4, then "Feature Pyramid Networks", section 3."""
    parameters = iter(neck.parameters())

    def take(count: int) -> list[Tensor]:
        return [next(parameters) for _ in range(count)]

    x = F.conv_transpose2d(inputs[0], *take(2), stride=2)
    mean = x.mean((0, 2, 3), keepdim=True)
    variance = ((x - mean) ** 2).mean((0, 2, 3), keepdim=True)
    weight, bias = (value.view(1, -1, 1, 1) for value in take(2))
    x = F.gelu(weight * (x - mean) / (variance + 1e-5).sqrt() + bias)
    maps = [
        F.conv_transpose2d(x, *take(2), stride=2),
        F.conv_transpose2d(inputs[1], *take(2), stride=2),
        inputs[2],
        F.max_pool2d(inputs[3], 2, 2),
    ]
    laterals = [F.conv2d(x, *take(2)) for x in maps]
    for index in (2, 1, 0):
        above = F.interpolate(laterals[index + 1], laterals[index].shape[2:], mode='nearest')
        laterals[index] = laterals[index] + above
    levels = [F.conv2d(x, *take(2), padding=1) for x in laterals]
    assert next(parameters, None) is None
    return [*levels, levels[-1][:, :, ::2, ::2]]


def test_equals_the_published_operations() -> None:
    neck = make_neck()  # SyncBN: without processes to share with, the batch's own statistics
    inputs = make_inputs()
    levels = neck(inputs)
    assert [tuple(level.shape[2:]) for level in levels] == SIZES
    for level, expected in zip(levels, by_hand(neck, inputs), strict=True):
        torch.testing.assert_close(level, expected, rtol=1e-3, atol=1e-3)


def test_patches_of_8_have_the_same_strides() -> None:
    neck = make_neck(rescales=(2, 1, 0.5, 0.25))
    sizes = [tuple(level.shape[2:]) for level in neck(make_inputs())]
    assert sizes == [(rows // 2, columns // 2) for rows, columns in SIZES[:3]] + [(1, 2), (1, 1)]


def test_hands_on_full_precision() -> None:
    with torch.autocast('cpu', torch.bfloat16):
        levels = make_neck(norm_cfg=dict(type='BN'))(make_inputs())
    assert {level.dtype for level in levels} == {torch.float32}
