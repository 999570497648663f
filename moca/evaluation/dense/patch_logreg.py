"""Logistic regression on patch features by L-BFGS on the device.

Source: facebookresearch/capi, whose cuML classifier minimizes ``|W|^2 / 2 + C * sum of losses``
(scikit-learn's convention, the bias free).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

STRENGTHS = tuple(10 ** (-6 + 11 * i / 7) for i in range(8))
"""CAPI's grid of C: eight values from 1e-6 to 1e5."""

_HISTORY, _ITERATIONS, _LINE_STEPS = 5, 1000, 50  # CAPI's L-BFGS
# Of a change of the objective, which is divided by C * N here. CAPI's is 1e-12, of cuML's criteria;
# 1e-12 here stopped up to 3e-5 of the weights from the minimum, and this 1e-6 (our choice).
_TOLERANCE = 1e-15
_ROWS = 65536  # of a forward pass
_KEPT = 2**27  # features that are kept in double precision: 1 GB; larger sets are converted anew


@dataclass(frozen=True)
class LogisticRegression:
    """A linear classifier.

    Attributes:
        classes: ``[K]`` the labels it knows, ascending.
        weight: ``[K, D]``.
        bias: ``[K]``; determined up to a common constant, its mean is 0.
        iterations: Of L-BFGS.
    """

    classes: Tensor
    weight: Tensor
    bias: Tensor
    iterations: int

    def predict(self, features: Tensor) -> Tensor:
        """The labels ``[N]`` of features ``[N, D]``."""
        parts = features.split(_ROWS)
        found = [F.linear(part.double(), self.weight, self.bias).argmax(1) for part in parts]
        return self.classes[torch.cat(found)]


def fit_logreg(
    features: Tensor,
    labels: Tensor,
    strength: float,
    *,
    iterations: int = _ITERATIONS,
) -> LogisticRegression:
    """Fit by L-BFGS with a strong-Wolfe line search, from zero and in double precision.

    In fp32 it stops early, up to a hundredth of the weights from the minimum.

    The objective is divided by ``C * N`` and, where that is small, the weights are written as a
    multiple of its root. Neither moves the minimum; both keep the problem well conditioned over
    the eleven decades of C.

    Args:
        features: ``[N, D]``, standardized.
        labels: ``[N]`` integers.
        strength: C.
        iterations: At most; CAPI's 1000.
    """
    classes, targets = labels.unique(return_inverse=True)
    device = features.device
    weight = torch.zeros(len(classes), features.shape[1], dtype=torch.double, device=device)
    bias = torch.zeros(len(classes), dtype=torch.double, device=device)
    weight.requires_grad_()
    bias.requires_grad_()
    total = len(features)
    whole_in_double = features.numel() <= _KEPT
    parts = features.double().split(_ROWS) if whole_in_double else features.split(_ROWS)
    unit = min(1.0, strength * total) ** 0.5
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=iterations,
        max_eval=iterations * _LINE_STEPS,
        history_size=_HISTORY,
        tolerance_grad=0.0,
        tolerance_change=_TOLERANCE,
        line_search_fn='strong_wolfe',
    )

    def objective() -> Tensor:
        optimizer.zero_grad()
        value = weight.square().sum() * (unit**2 / (2 * strength * total))
        value.backward()
        whole = value.detach()
        for part, wanted in zip(parts, targets.split(_ROWS), strict=True):
            logits = F.linear(part.double(), weight * unit, bias)
            loss = F.cross_entropy(logits, wanted, reduction='sum') / total
            loss.backward()
            whole = whole + loss.detach()
        return whole

    with torch.enable_grad():
        optimizer.step(objective)
    done = int(optimizer.state[weight]['n_iter'])
    centered = bias.detach() - bias.detach().mean()
    return LogisticRegression(classes, weight.detach() * unit, centered, done)
