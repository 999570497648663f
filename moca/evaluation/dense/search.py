"""Exact nearest rows of a bank, by blocks on the device; or faiss.

One implementation serves all: the k best inner products. The nearest rows by Euclidean distance
are those of largest ``q x - |x|^2 / 2``, an inner product as well.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from moca.errors import UserError
from moca.evaluation.neighbors import Neighbors

Distance = Literal['cosine', 'L2']
Backend = Literal['blocks', 'faiss']

BLOCK = 16384
"""Rows of the bank that are compared at a time; they alone are copied to the queries' device."""


class BankSearch:
    """A bank of features that is searched for the nearest rows of queries.

    Args:
        rows: ``[R, D]``, on any device; they stay there and are not copied but by blocks.
        distance: ``cosine`` or ``L2``.
        backend: ``blocks``, or ``faiss`` for its exact ``IndexFlatIP`` on the CPU.
        block: Rows at a time.

    Raises:
        UserError: faiss is asked for and not installed.
    """

    def __init__(
        self,
        rows: Tensor,
        distance: Distance = 'cosine',
        backend: Backend = 'blocks',
        block: int = BLOCK,
    ) -> None:
        self.distance, self.block = distance, block
        self.rows, self.count = rows, len(rows)
        self.index = _faiss_index(self._bank_side(rows)) if backend == 'faiss' else None

    def nearest(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k nearest rows of each query, the nearest first.

        Args:
            queries: ``[Q, D]``.
            k: At most as many as the bank has rows.

        Returns:
            Scores ``[Q, k]`` (cosines, or minus half the squared distance up to a constant of the
            query), and numbers of rows ``[Q, k]``.

        Raises:
            UserError: The bank has fewer than k rows.
        """
        if k > self.count:
            raise UserError(
                f'k={k}: the bank has {self.count} rows. Give a smaller k, a larger bank or more '
                'images.'
            )
        if self.distance == 'cosine':
            queries = F.normalize(queries, dim=1)
        else:
            queries = torch.cat([queries, queries.new_ones(len(queries), 1)], dim=1)
        if self.index is not None:
            scores, numbers = self.index.search(queries.cpu().numpy(), k)
            device = queries.device
            return torch.from_numpy(scores).to(device), torch.from_numpy(numbers).to(device)
        found = Neighbors(queries, k)
        for start in range(0, self.count, self.block):
            part = self.rows[start : start + self.block].to(queries.device, queries.dtype)
            numbers = torch.arange(start, start + len(part), device=queries.device)
            found.add(self._bank_side(part), numbers)
        return found.cosine, found.labels

    def _bank_side(self, rows: Tensor) -> Tensor:
        if self.distance == 'cosine':
            return F.normalize(rows, dim=1)
        return torch.cat([rows, -rows.square().sum(1, keepdim=True) / 2], dim=1)


def _faiss_index(rows: Tensor) -> Any:
    try:
        import faiss
    except ImportError as error:
        raise UserError(
            "search='faiss': faiss is not installed. pip install -r requirements/faiss.txt, or "
            'leave it out: blocks find the same neighbors.'
        ) from error
    index = faiss.IndexFlatIP(rows.shape[1])
    index.add(rows.float().cpu().numpy())
    return index
