"""UPerNet's lean head against mmseg's, and the convolution of enlarged maps against torch's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from mmseg.models.decode_heads.uper_head import UPerHead
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from moca.segmentation import LeanUPerHead
from moca.segmentation.heads import convolve_enlarged
from tests.backbone.helpers import randomize

WIDTHS = [8, 12, 16, 20]


def heads(**settings: Any) -> tuple[UPerHead, LeanUPerHead]:
    """mmseg's head and ours, of the same weights."""
    common: dict[str, Any] = dict(
        in_channels=WIDTHS,
        in_index=[0, 1, 2, 3],
        channels=10,
        num_classes=5,
        dropout_ratio=0.0,
        norm_cfg=dict(type='BN'),
        align_corners=False,
    )
    theirs, ours = UPerHead(**{**common, **settings}), LeanUPerHead(**{**common, **settings})
    randomize(theirs)
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, mean=1, std=0.1)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def maps(grid: tuple[int, int]) -> list[Tensor]:
    """Levels at four times `grid`, and half as large each."""
    generator = torch.Generator().manual_seed(0)
    height, width = grid
    return [
        torch.randn(
            2, channels, max(4 * height >> i, 1), max(4 * width >> i, 1), generator=generator
        )
        for i, channels in enumerate(WIDTHS)
    ]


@pytest.mark.filterwarnings('ignore:When align_corners=True')
@pytest.mark.parametrize('grid', [(4, 4), (5, 3), (1, 2)], ids=str)
@pytest.mark.parametrize('align_corners', [False, True])
def test_logits_gradients_and_statistics_are_mmsegs(
    grid: tuple[int, int], align_corners: bool
) -> None:
    theirs, ours = heads(align_corners=align_corners)
    given = [maps(grid), maps(grid)]
    logits = []
    for head, inputs in zip((theirs, ours), given, strict=True):
        logits.append(head([x.requires_grad_() for x in inputs]))
        weights = torch.randn(logits[0].shape, generator=torch.Generator().manual_seed(1))
        (weights * logits[-1]).sum().backward()
    assert logits[0].std() > 0.1
    torch.testing.assert_close(logits[1], logits[0], rtol=1e-4, atol=1e-5)
    for one, other in zip(*given, strict=True):
        close(other.grad, one.grad, one.grad.abs().max(), 'inputs')
    found = dict(ours.named_parameters())
    scale = max(p.grad.abs().max() for p in theirs.parameters() if p.grad is not None)
    for name, parameter in theirs.named_parameters():
        if parameter.grad is not None:
            close(found[name].grad, parameter.grad, scale, name)
    statistics = dict(ours.named_buffers())
    assert len(statistics) > 10
    for name, buffer in theirs.named_buffers():
        close(statistics[name], buffer, 1.0, name)


def close(found: Tensor, expected: Tensor, scale: Any, what: str) -> None:
    torch.testing.assert_close(
        found / scale, expected / scale, rtol=0, atol=1e-4, msg=lambda text: f'{what}: {text}'
    )


def test_without_norm() -> None:
    theirs, ours = heads(norm_cfg=None)
    assert theirs.bottleneck.conv.bias is not None
    torch.testing.assert_close(ours(maps((4, 6))), theirs(maps((4, 6))), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('size', [(8, 12), (16, 9), (7, 5), (4, 6)], ids=str)
@pytest.mark.parametrize('align_corners', [False, True])
def test_convolution_of_enlarged_maps(size: tuple[int, int], align_corners: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(2, 3, *grid, generator=generator) for grid in ((4, 6), (1, 2))]
    kernels = [torch.randn(4, 3, 3, 3, generator=generator) for _ in inputs]
    large = [F.interpolate(x, size, mode='bilinear', align_corners=align_corners) for x in inputs]
    expected = F.conv2d(torch.cat(large, 1), torch.cat(kernels, 1), padding=1)
    found = convolve_enlarged(inputs, kernels, size, align_corners)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_half_precision() -> None:
    theirs, ours = heads()
    expected = theirs.eval()(maps((8, 8)))
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        found, rounded = ours.eval()(maps((8, 8))), theirs(maps((8, 8)))
    assert found.dtype == torch.bfloat16
    error, usual = (found - expected).abs().mean(), (rounded - expected).abs().mean()
    assert error < 1.5 * usual


def test_half_of_the_work() -> None:
    # as in the protocols: 512 x 512 pixels
    settings = dict(in_channels=[768] * 4, channels=768, num_classes=150)
    with torch.device('meta'):
        inputs = [torch.empty(1, 768, size, size) for size in (128, 64, 32, 16)]
        flops = []
        for cls in (UPerHead, LeanUPerHead):
            head = cls(
                in_index=[0, 1, 2, 3], norm_cfg=dict(type='BN'), align_corners=False, **settings
            )
            with FlopCounterMode(display=False) as counter:
                head.eval()(inputs)
            flops.append(counter.get_total_flops() / 1e12)
    assert flops == pytest.approx([0.97, 0.51], abs=0.01)
