"""The focal loss through mmcv's own function, against its formula and mmdet's version."""

from __future__ import annotations

import math

import pytest
import torch
from mmcv.ops import sigmoid_focal_loss
from mmdet.models.losses.focal_loss import py_sigmoid_focal_loss
from torch import Tensor

DEVICES = ['cpu', pytest.param('cuda', marks=pytest.mark.gpu)]
TARGETS = torch.tensor([0, 2, 3, 1, 3, 2])  # 3 is the background of 3 classes


def logits(dtype: torch.dtype = torch.float64) -> Tensor:
    values = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (3 * values).to(dtype)


def formula(x: float, positive: bool, gamma: float, alpha: float) -> float:
    """Equation 5 of the paper: - alpha_t (1 - p_t) ** gamma log p_t."""
    p = 1 / (1 + math.exp(-x))
    p_t, alpha_t = (p, alpha) if positive else (1 - p, 1 - alpha)
    return -alpha_t * (1 - p_t) ** gamma * math.log(p_t)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize(('gamma', 'alpha'), [(2.0, 0.25), (1.5, 0.6), (0.0, 0.5)])
def test_values(gamma: float, alpha: float, device: str) -> None:
    x = logits()
    found = sigmoid_focal_loss(x.to(device), TARGETS.to(device), gamma, alpha, None, 'none')
    for row, target in enumerate(TARGETS.tolist()):
        for column in range(3):
            expected = formula(float(x[row, column]), column == target, gamma, alpha)
            assert float(found[row, column]) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('reduction', ['none', 'sum', 'mean'])
def test_gradients(reduction: str, device: str) -> None:
    targets = TARGETS.to(device)
    x = logits().to(device).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: sigmoid_focal_loss(x, targets, 2.0, 0.25, None, reduction), x
    )


def test_mmdets_own_version_agrees() -> None:
    ours, theirs = (logits(torch.float32).requires_grad_() for _ in range(2))
    one_hot = torch.nn.functional.one_hot(TARGETS, 4)[:, :3]
    loss = sigmoid_focal_loss(ours, TARGETS, 2.0, 0.25, None, 'sum')
    expected = py_sigmoid_focal_loss(theirs, one_hot, gamma=2.0, alpha=0.25, reduction='sum')
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_weights_of_classes() -> None:
    x, weight = logits(), torch.tensor([2.0, 3.0, 0.5], dtype=torch.float64)
    plain = sigmoid_focal_loss(x, TARGETS, 2.0, 0.25, None, 'none')
    weighted = sigmoid_focal_loss(x, TARGETS, 2.0, 0.25, weight, 'none')
    # rows of classes 0, 2, background, 1, background, 2
    rows = torch.tensor([2.0, 0.5, 1, 3, 1, 0.5], dtype=torch.float64)
    torch.testing.assert_close(weighted, plain * rows[:, None])


@pytest.mark.parametrize('device', DEVICES)
def test_half_precision_is_rounded_at_the_end(device: str) -> None:
    x = logits(torch.bfloat16).to(device).requires_grad_()
    exact = x.detach().float().requires_grad_()
    targets = TARGETS.to(device)
    found = sigmoid_focal_loss(x, targets, 2.0, 0.25, None, 'none')
    expected = sigmoid_focal_loss(exact, targets, 2.0, 0.25, None, 'none')
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected.bfloat16(), rtol=0, atol=0)
    found.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(x.grad, exact.grad.bfloat16(), rtol=0, atol=0)
