"""Which class is taken for which: pixels by true and predicted class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_CLASSES = 32
"""Classes of a matrix that can be looked at; of more, only the largest confusions are listed."""

MOST_PAIRS = 12
"""Confusions that are listed."""


class Confusion:
    """Counts of pixels ``[true, predicted]``, filled like a metric of mmseg.

    Args:
        classes: Their names.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        self.counts: NDArray[np.int64] = np.zeros((len(classes),) * 2, np.int64)

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Count predictions that carry their truth; pixels of no class are left out."""
        number = len(self.classes)
        for sample in data_samples:
            found, true = (
                sample[name]['data'].squeeze().cpu().numpy().astype(np.int64).ravel()
                for name in ('pred_sem_seg', 'gt_sem_seg')
            )
            known = (true < number) & (found < number)
            pairs = true[known] * number + found[known]
            self.counts += np.bincount(pairs, minlength=number**2).reshape(number, number)

    @property
    def ious(self) -> dict[str, float]:
        """IoU of each class in percent; NaN for one that is neither true nor predicted."""
        hits = self.counts.diagonal().astype(np.float64)
        union = self.counts.sum(0) + self.counts.sum(1) - hits
        ious = np.divide(100 * hits, union, out=np.full(len(hits), np.nan), where=union > 0)
        return dict(zip(self.classes, ious.tolist(), strict=True))

    @property
    def shares(self) -> NDArray[np.float64]:
        """Percent of each true class's pixels, ``[true, predicted]``; 0 for an absent class."""
        return 100 * self.counts / np.maximum(self.counts.sum(1, keepdims=True), 1)


@dataclass(frozen=True)
class Confused:
    """So many percent of a true class's pixels are predicted as another class."""

    true: str
    predicted: str
    share: float
    pixels: int


def largest(confusion: Confusion) -> list[Confused]:
    """The confusions of the most pixels, the largest first."""
    wrong = confusion.counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind='stable')[:MOST_PAIRS]
    pairs = [divmod(int(place), len(confusion.classes)) for place in order]
    return [
        Confused(
            *(confusion.classes[true], confusion.classes[found]),
            *(float(confusion.shares[true, found]), int(wrong[true, found])),
        )
        for true, found in pairs
        if wrong[true, found]
    ]


@dataclass(frozen=True)
class Square:
    """A row of the matrix: a true class that the labels contain, and shares of its pixels."""

    name: str
    shares: tuple[float, ...]


def matrix(confusion: Confusion) -> tuple[list[str], list[Square]]:
    """Names of the columns, and the rows, of classes that are there; none if they are too many."""
    there = np.flatnonzero(confusion.counts.sum(0) + confusion.counts.sum(1))
    if len(there) > MOST_CLASSES:
        return [], []
    names = [confusion.classes[place] for place in there]
    shares = confusion.shares[np.ix_(there, there)]
    return names, [Square(n, tuple(row)) for n, row in zip(names, shares.tolist(), strict=True)]
