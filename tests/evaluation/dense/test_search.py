"""Exact search by blocks, beside a search of the whole bank at once."""

from __future__ import annotations

import sys
import types
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from moca.errors import UserError
from moca.evaluation.dense.search import BankSearch

ROWS, QUERIES, WIDTH, K = 50, 20, 6, 7


@pytest.fixture(scope='module')
def features() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    scale = torch.rand(ROWS, 1, generator=random) + 0.5  # lengths that an inner product follows
    bank = scale * torch.randn(ROWS, WIDTH, generator=random)
    return bank, 10 * torch.randn(QUERIES, WIDTH, generator=random)


def distances(bank: Tensor, queries: Tensor, distance: str) -> Tensor:
    if distance == 'L2':
        return torch.cdist(queries.double(), bank.double())
    return 1 - torch.cosine_similarity(queries.double()[:, None], bank.double()[None], dim=2)


@pytest.mark.parametrize('distance', ['cosine', 'L2'])
def test_blocks_find_the_nearest_rows(features: tuple[Tensor, Tensor], distance: Any) -> None:
    bank, queries = features
    wanted = distances(bank, queries, distance).argsort(1)[:, :K]
    for blocks in (1, 3, 7):
        search = BankSearch(bank, distance, block=-(-ROWS // blocks))
        assert torch.equal(search.nearest(queries, K)[1], wanted), blocks


def test_scores_are_cosines_whatever_the_length(features: tuple[Tensor, Tensor]) -> None:
    bank, queries = features
    cosine, numbers = BankSearch(bank).nearest(queries, K)
    longer = BankSearch(10 * bank).nearest(0.1 * queries, K)
    wanted = 1 - distances(bank, queries, 'cosine').gather(1, numbers)
    torch.testing.assert_close(cosine.double(), wanted, atol=1e-6, rtol=0)
    torch.testing.assert_close(longer[0], cosine)
    assert torch.equal(longer[1], numbers)


def test_a_bank_smaller_than_k_is_refused(features: tuple[Tensor, Tensor]) -> None:
    bank, queries = features
    with pytest.raises(UserError, match='k=30: the bank has 4 rows'):
        BankSearch(bank[:4]).nearest(queries, 30)


def test_faiss_is_asked_for_by_name(
    features: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    bank, queries = features
    monkeypatch.setitem(sys.modules, 'faiss', None)
    with pytest.raises(UserError, match=r'pip install -r requirements/faiss\.txt'):
        BankSearch(bank, backend='faiss')

    class IndexFlatIP:
        """What is used of faiss's class of this name, which the tests cannot count on."""

        def __init__(self, width: int) -> None:
            self.rows = np.empty((0, width), np.float32)

        def add(self, rows: Any) -> None:
            assert rows.dtype == np.float32
            assert rows.shape[1] == self.rows.shape[1]
            self.rows = np.concatenate([self.rows, rows])

        def search(self, asked: Any, k: int) -> tuple[Any, Any]:
            scores = asked @ self.rows.T
            order = np.argsort(-scores, axis=1)[:, :k]
            return np.take_along_axis(scores, order, 1), order

    fake = types.ModuleType('faiss')
    fake.IndexFlatIP = IndexFlatIP  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, 'faiss', fake)
    for distance in ('cosine', 'L2'):
        ours = BankSearch(bank, distance).nearest(queries, K)  # type: ignore[arg-type]
        theirs = BankSearch(bank, distance, 'faiss').nearest(queries, K)  # type: ignore[arg-type]
        assert torch.equal(ours[1], theirs[1])
        torch.testing.assert_close(ours[0], theirs[0], atol=1e-5, rtol=1e-5)


def test_real_faiss_finds_the_same(features: tuple[Tensor, Tensor]) -> None:
    pytest.importorskip('faiss')
    bank, queries = features
    numbers = BankSearch(bank, backend='faiss').nearest(queries, K)[1]
    assert torch.equal(numbers, BankSearch(bank).nearest(queries, K)[1])
