"""Logistic regression against torch's L-BFGS on the objective written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from moca.errors import UserError
from moca.evaluation import logistic
from moca.evaluation.logistic import fit, prepared_rows


def lbfgs(rows: Tensor, labels: Tensor, C: float, intercept: bool) -> tuple[Tensor, Tensor]:
    """Minimize the sum of cross-entropies + |W|^2 / 2C from zero, in double precision."""
    classes = int(labels.max()) + 1
    weights = torch.zeros(classes, rows.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=intercept)
    solver = torch.optim.LBFGS(
        [weights, bias] if intercept else [weights],
        max_iter=2000,
        tolerance_grad=1e-10,
        tolerance_change=1e-14,
        line_search_fn='strong_wolfe',
    )

    def loss() -> Tensor:
        solver.zero_grad()
        total = torch.nn.functional.cross_entropy(rows @ weights.T + bias, labels, reduction='sum')
        total = total + weights.square().sum() / (2 * C)
        total.backward()
        return total

    solver.step(loss)
    return weights.detach(), bias.detach()


@pytest.fixture(scope='module')
def data() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(40) % 5
    means = torch.randn(5, 12, generator=random)
    return means[labels] + torch.randn(40, 12, generator=random), labels


@pytest.mark.parametrize(
    ('classes', 'C', 'intercept'), [(5, 10.0, False), (5, 0.1, True), (2, 10.0, False)]
)
def test_weights_are_those_of_another_solver(
    data: tuple[Tensor, Tensor], classes: int, C: float, intercept: bool
) -> None:
    """A mean for the sum, or another C, is far off; so is the one row that two classes have."""
    kept = data[1] < classes
    rows, labels = prepared_rows(data[0][kept]), data[1][kept]
    expected, bias = lbfgs(rows, labels, C, intercept)
    found = fit(rows.numpy(), labels.numpy() + 3, C, intercept, 'fit')
    scale = expected.abs().max()
    assert (torch.from_numpy(found.weights) - expected).abs().max() < 1e-3 * scale
    assert np.abs(found.intercepts - bias.numpy()).max() < 1e-3
    other, _ = lbfgs(rows, labels, 2 * C, intercept)
    assert (other - expected).abs().max() > 0.05 * scale
    answers = (rows @ expected.T + bias).argmax(1) + 3
    assert found.answers(rows.numpy()).tolist() == answers.tolist()


def test_rows_are_centered_over_their_own_channels(data: tuple[Tensor, Tensor]) -> None:
    rows = prepared_rows(100 * data[0] + 7)
    assert rows.dtype == torch.float64
    torch.testing.assert_close(rows.sum(1), torch.zeros(40).double(), atol=1e-12, rtol=0)
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(40).double())
    assert rows.mean(0).abs().max() > 0.01  # not the channels over images
    raw = prepared_rows(data[0], center=False, length=False)
    assert torch.equal(raw, data[0].double())


def test_a_solver_that_has_not_converged_is_an_error(
    data: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logistic, 'MOST_ITERATIONS', 3)
    with pytest.raises(UserError, match=r'2shot, split 0: .* has not converged .* 3 iterations'):
        fit(data[0].double().numpy(), data[1].numpy(), 10, False, '2shot, split 0')
