"""The linear head against plain torch layers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from moca.segmentation import LinearSegHead


def features() -> list[torch.Tensor]:
    return list(3 + 5 * torch.randn(2, 2, 8, 6, 4, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize('norm', [None, dict(type='SyncBN'), dict(type='BN')])
def test_equals_batch_norm_and_convolution(norm: dict | None) -> None:
    head = LinearSegHead(in_channels=8, num_classes=5, norm_cfg=norm).train()
    assert len(list(head.parameters())) == (2 if norm is None else 4)
    x = features()[1]
    expected = x
    if norm:
        mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), unbiased=False, keepdim=True)
        expected = (x - mean) / (var + 1e-5).sqrt()
    expected = F.conv2d(expected, head.conv_seg.weight, head.conv_seg.bias)
    torch.testing.assert_close(head(features()), expected, rtol=1e-4, atol=1e-5)


def test_concatenates_levels() -> None:
    head = LinearSegHead(
        in_channels=[8, 8], in_index=[0, 1], input_transform='resize_concat', num_classes=5
    )
    expected = F.conv2d(torch.cat(features(), 1), head.conv_seg.weight, head.conv_seg.bias)
    torch.testing.assert_close(head(features()), expected)


def test_full_precision_under_autocast() -> None:
    head = LinearSegHead(in_channels=8, num_classes=5, norm_cfg=dict(type='BN')).eval()
    x = [level.bfloat16() for level in features()]
    with torch.autocast('cpu', torch.bfloat16):
        output = head(x)
        assert nn.Conv2d(8, 5, 1)(x[1]).dtype == torch.bfloat16  # autocast does act here
    assert output.dtype == torch.float32
    torch.testing.assert_close(output, head([level.float() for level in x]), rtol=0, atol=0)
