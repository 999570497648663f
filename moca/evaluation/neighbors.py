"""Exact nearest neighbors in a bank that comes in parts, and their votes.

Source: MOCA's released evaluation (knn_utils.py:120-156), which is DINO's: features of length 1,
the k nearest of a bank vote for their class with weight exp(cosine / temperature).
"""

from __future__ import annotations

import torch
from torch import Tensor

# Similarities that exist at a time: 2^24 in fp32 are 64 MB.
SIMILARITIES = 2**24

# Votes that exist at a time, likewise: 2^23 in fp64.
VOTES = 2**23

LOWEST_TEMPERATURE = 0.002
"""exp(1 / temperature) overflows double precision below .0014."""


class Neighbors:
    """The nearest neighbors of some queries in a bank that comes in parts and is not kept.

    Memory is that of the queries, k numbers for each and `SIMILARITIES`, however large the bank.

    Args:
        queries: ``[Q, C]`` fp32, of length 1.
        k: How many neighbors.

    Attributes:
        cosine: ``[Q, k]``, largest first; -inf where the bank had fewer than k.
        labels: ``[Q, k]`` of these neighbors; -1 likewise.
        rows: ``[Q, k]`` their places in the bank; -1 likewise.
    """

    def __init__(self, queries: Tensor, k: int) -> None:
        self.queries = queries
        self.cosine = queries.new_full((len(queries), k), float('-inf'))
        self.labels = torch.full((len(queries), k), -1, device=queries.device)
        self.rows = self.labels.clone()
        self._seen = 0

    def add(self, features: Tensor, labels: Tensor, rows: Tensor | None = None) -> None:
        """Look at a part of the bank.

        Args:
            features: ``[N, C]``, of length 1.
            labels: ``[N]``.
            rows: ``[N]`` places in the bank; None where parts come in its order.
        """
        if rows is None:
            rows = torch.arange(self._seen, self._seen + len(features), device=labels.device)
        self._seen += len(features)
        count = max(1, SIMILARITIES // max(1, len(features)))
        for start in range(0, len(self.queries), count):
            part = slice(start, start + count)
            cosine = self._cosine(part, features)
            # the best of this part alone first: what is kept is joined to few columns, not to all
            best, places = cosine.topk(min(self.cosine.shape[1], len(features)), dim=1)
            self._keep_best(part, best, labels[places], rows[places])

    def _cosine(self, part: slice, features: Tensor) -> Tensor:
        return self.queries[part] @ features.T

    def merge(self, cosine: Tensor, labels: Tensor, rows: Tensor) -> None:
        """Take in what was found for the same queries in another part of the bank, ``[Q, k]``."""
        self._keep_best(slice(None), cosine, labels, rows)

    def _keep_best(self, part: slice, cosine: Tensor, labels: Tensor, rows: Tensor) -> None:
        cosine = torch.cat([self.cosine[part], cosine], dim=1)
        self.cosine[part], chosen = cosine.topk(self.cosine.shape[1], dim=1)
        for kept, found in ((self.labels, labels), (self.rows, rows)):
            kept[part] = torch.cat([kept[part], found], dim=1).gather(1, chosen)


def vote(cosine: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """The class of most weight among neighbors.

    Args:
        cosine: ``[Q, k]``, largest first; -inf for no neighbor.
        labels: ``[Q, k]``.
        temperature: A neighbor weighs exp(cosine / temperature).

    Returns:
        ``[Q]`` labels.
    """
    weights = (cosine / temperature).softmax(dim=1)  # exp, up to a common factor
    same = labels[:, :, None] == labels[:, None, :]
    total = torch.einsum('qij,qj->qi', same.to(weights.dtype), weights)
    return labels.gather(1, total.argmax(dim=1, keepdim=True)).squeeze(1)


def class_votes(cosine: Tensor, labels: Tensor, temperature: float, classes: int) -> Tensor:
    """What each class gets of the votes of neighbors, ``[Q, classes]`` fp64.

    Args:
        cosine: ``[Q, k]``; -inf for no neighbor.
        labels: ``[Q, k]`` of 0 to ``classes - 1``; -1 for no neighbor.
        temperature: A neighbor weighs exp(cosine / temperature).
        classes: How many there are.
    """
    weights = (cosine.double() / temperature).exp()
    votes = weights.new_zeros(len(cosine), classes)
    return votes.scatter_add_(1, labels.clamp_min(0), weights)


def right_answers(
    cosine: Tensor, labels: Tensor, temperature: float, truth: Tensor, classes: int
) -> tuple[int, int]:
    """How many queries' classes are the first, and among the first min(5, k), by their votes.

    Equal votes, in practice of classes without any, stand in the order of the classes.

    Args:
        cosine: ``[Q, k]``, of the k neighbors that vote.
        labels: ``[Q, k]``.
        temperature: As for `class_votes`.
        truth: ``[Q]``.
        classes: How many there are.
    """
    first = five = 0
    places = min(5, cosine.shape[1], classes)
    for rows in torch.arange(len(truth), device=truth.device).split(max(1, VOTES // classes)):
        votes = class_votes(cosine[rows], labels[rows], temperature, classes)
        own = votes.gather(1, truth[rows, None])
        before = torch.arange(classes, device=truth.device)[None] < truth[rows, None]
        ahead = ((votes > own) | ((votes == own) & before)).sum(1)
        first += int((ahead < 1).sum())
        five += int((ahead < places).sum())
    return first, five
