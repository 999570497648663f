"""CAPI's k-NN segmentation: neighbors vote for each pixel of a patch.

Source: facebookresearch/capi, eval_segmentation.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from moca.evaluation.dense.patch_labels import LABELS
from moca.evaluation.dense.search import BankSearch

COUNTS = (1, 3, 10, 30)
"""CAPI's grid of k."""

_VOTES = 2**26  # labels of neighbors that exist at a time: 64 MB


def pixel_vote(labels: Tensor) -> Tensor:
    """The label most neighbors have at each pixel; of equally frequent ones the smallest.

    Args:
        labels: ``[Q, k, P]`` uint8: the P pixels of the patches of k neighbors.

    Returns:
        ``[Q, P]`` uint8.
    """
    best = torch.zeros_like(labels[:, 0], dtype=torch.int32)
    for one in labels.unbind(1):
        votes = (labels == one[:, None]).sum(1, dtype=torch.int32)
        # more votes win, then the smaller label
        best = torch.maximum(best, votes * LABELS + (LABELS - 1 - one.int()))
    return (LABELS - 1 - best % LABELS).to(torch.uint8)


def predict_pixels(
    queries: Tensor, bank: BankSearch, pixels: Tensor, counts: Sequence[int]
) -> Iterator[tuple[slice, dict[int, Tensor]]]:
    """Labels of every pixel of patches, for several numbers of neighbors by one search.

    Args:
        queries: ``[Q, D]``.
        bank: Of R patches.
        pixels: ``[R, P]`` uint8, the labels of the bank's pixels.
        counts: Numbers of neighbors.

    Yields:
        Which of the queries, and for each k their labels ``[q, P]`` uint8.

    Raises:
        UserError: The bank has fewer rows than the largest k.
    """
    rows = max(_VOTES // (max(counts) * pixels.shape[1]), 1)
    for start in range(0, len(queries), rows):
        part = slice(start, min(start + rows, len(queries)))
        _, numbers = bank.nearest(queries[part], max(counts))
        found = pixels[numbers.to(pixels.device)]
        yield part, {k: pixel_vote(found[:, :k]) for k in counts}
