"""Multinomial logistic regression by scikit-learn, in double precision and converged."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moca.errors import UserError

TOLERANCE, MOST_ITERATIONS = 1e-8, 3000
"""Of the solver, in double precision [our choice: MOCA's 1e-4 of single precision stops early, at
another place with every version of scikit-learn]."""


def prepared_rows(features: Tensor, center: bool = True, length: bool = True) -> Tensor:
    """Features as a regression takes them, ``[N, F]`` fp64: centered by row, then of length 1.

    Args:
        features: ``[N, F]``.
        center: Take off each row's mean over its channels.
        length: Make each row of length 1.
    """
    rows = features.double()
    if center:
        rows = rows - rows.mean(1, keepdim=True)
    return torch.nn.functional.normalize(rows, dim=1) if length else rows


@dataclass(frozen=True)
class Regression:
    """A fitted logistic regression.

    Attributes:
        weights: ``[classes, F]`` fp64.
        intercepts: ``[classes]``; zeros where none was fitted.
        labels: ``[classes]``, of the rows of `weights`.
        iterations: Of the solver.
    """

    weights: NDArray[np.float64]
    intercepts: NDArray[np.float64]
    labels: NDArray[np.int64]
    iterations: int

    def answers(self, rows: NDArray[np.float64]) -> NDArray[np.int64]:
        """The most likely label of each row ``[N, F]``."""
        places = (rows @ self.weights.T + self.intercepts).argmax(1)
        return self.labels[places]


def fit(
    rows: NDArray[np.float64], labels: NDArray[np.int64], C: float, intercept: bool, title: str
) -> Regression:
    """Minimize the sum of cross-entropies plus ``|W|^2 / 2C`` over multinomial weights.

    Args:
        rows: ``[N, F]``.
        labels: ``[N]``, of two classes or more.
        C: As above.
        intercept: Fit one, which is not regularized.
        title: Of the fit, for messages.

    Raises:
        UserError: The solver has not converged.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    classes = len(np.unique(labels))
    # Of two classes scikit-learn fits one row, the difference: with W = (-w/2, w/2) its |w|^2 is
    # twice |W|^2.
    strength = 2 * C if classes == 2 else C
    solver = LogisticRegression(
        C=strength, fit_intercept=intercept, tol=TOLERANCE, max_iter=MOST_ITERATIONS
    )
    with warnings.catch_warnings():
        warnings.simplefilter('error', ConvergenceWarning)
        # of one image a class scikit-learn suspects that the labels are quantities
        warnings.filterwarnings('ignore', 'The number of unique classes', UserWarning)
        try:
            solver.fit(rows, labels)
        except ConvergenceWarning as warning:
            reason = str(warning).splitlines()[0].rstrip('.')
            raise UserError(
                f'{title}: logistic regression has not converged to {TOLERANCE:g} within '
                f'{MOST_ITERATIONS} iterations ({reason}). Give a smaller evaluation.C, or keep '
                'evaluation.length=True.'
            ) from None
    weights, intercepts = solver.coef_, solver.intercept_
    if classes == 2:
        weights = np.concatenate([-weights, weights]) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    return Regression(weights, intercepts, solver.classes_, int(solver.n_iter_[0]))
