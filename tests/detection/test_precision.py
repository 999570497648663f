"""Predictors that ignore autocast."""

from __future__ import annotations

import pytest
import torch
from mmdet.models.dense_heads import RPNHead
from torch import Tensor, nn

from moca.detection import Fp32Conv2d, Fp32Linear, Fp32RPNHead


@pytest.mark.parametrize(
    ('ours', 'theirs', 'x'),
    [
        (Fp32Linear(6, 5), nn.Linear(6, 5), torch.randn(3, 6)),
        (Fp32Conv2d(6, 5, 3), nn.Conv2d(6, 5, 3), torch.randn(2, 6, 4, 4)),
    ],
)
def test_full_precision_under_autocast(ours: nn.Module, theirs: nn.Module, x: Tensor) -> None:
    theirs.load_state_dict(ours.state_dict())
    x = x.bfloat16()
    with torch.autocast('cpu', torch.bfloat16):
        assert theirs(x).dtype == torch.bfloat16
        output = ours(x)
    assert output.dtype == torch.float32
    torch.testing.assert_close(output, theirs(x.float()), rtol=0, atol=0)


def test_rpn_head_has_mmdets_parameters_and_full_precision_boxes() -> None:
    ours, theirs = (
        cls(in_channels=8, feat_channels=8, num_convs=2).eval() for cls in (Fp32RPNHead, RPNHead)
    )
    ours.load_state_dict(theirs.state_dict())
    maps = [torch.randn(1, 8, 4, 4)] * 5
    for mine, reference in zip(ours(maps), theirs(maps), strict=True):
        torch.testing.assert_close(mine, reference)
    with torch.autocast('cpu', torch.bfloat16):
        scores, boxes = ours(maps)
    assert {x.dtype for x in (*scores, *boxes)} == {torch.float32}
