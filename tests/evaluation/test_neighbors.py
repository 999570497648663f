"""Neighbors and their votes against brute force, in parts and as a whole."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from moca.evaluation import neighbors
from moca.evaluation.neighbors import Neighbors, class_votes, right_answers, vote

CLASSES = 6


def brute_force(
    queries: Tensor, bank: Tensor, labels: Tensor, k: int, temperature: float
) -> tuple[list[list[int]], list[list[float]]]:
    """Rows and votes of one query and one neighbor at a time, in double precision."""
    rows, votes = [], []
    for query in queries.double().numpy():
        cosine = bank.double().numpy() @ query
        rows.append([int(i) for i in np.argsort(-cosine)[:k]])
        votes.append([0.0] * CLASSES)
        for i in rows[-1]:
            votes[-1][int(labels[i])] += math.exp(cosine[i] / temperature)
    return rows, votes


def unit(rows: int, width: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(rows, width, generator=generator)
    return torch.nn.functional.normalize(features, dim=1)


# Few dimensions and a high temperature: votes are close, and not the nearest neighbor's alone.
@pytest.mark.parametrize(('k', 'temperature'), [(1, 0.07), (10, 0.07), (20, 0.5)])
@pytest.mark.parametrize(('similarities', 'part'), [(2**24, 200), (64, 7)], ids=['whole', 'parts'])
def test_neighbors_and_votes_are_those_of_brute_force(
    monkeypatch: pytest.MonkeyPatch, k: int, temperature: float, similarities: int, part: int
) -> None:
    monkeypatch.setattr(neighbors, 'SIMILARITIES', similarities)
    queries, bank = unit(50, 4, seed=0), unit(200, 4, seed=1)
    labels = torch.randint(CLASSES, (200,), generator=torch.Generator().manual_seed(2))
    found = Neighbors(queries, k)
    for features, theirs in zip(bank.split(part), labels.split(part), strict=True):
        found.add(features, theirs)
    rows, votes = brute_force(queries, bank, labels, k, temperature)
    assert found.rows.tolist() == rows
    assert torch.equal(found.labels, labels[found.rows])
    ours = class_votes(found.cosine, found.labels, temperature, CLASSES)
    torch.testing.assert_close(ours.double(), torch.tensor(votes).double(), rtol=1e-5, atol=0)
    winners = np.argmax(votes, axis=1)
    assert vote(found.cosine, found.labels, temperature).tolist() == winners.tolist()
    truth = torch.randint(CLASSES, (50,), generator=torch.Generator().manual_seed(3))
    order = np.argsort(-np.array(votes), axis=1, kind='stable')
    among = sum(int(truth[q]) in order[q, : min(5, k)] for q in range(50))
    right = int((winners == truth.numpy()).sum())
    assert 0 < right < 50
    assert right_answers(found.cosine, found.labels, temperature, truth, CLASSES) == (right, among)
    nearest = [int(labels[row[0]]) for row in rows]
    assert k == 1 or winners.tolist() != nearest


def test_parts_of_the_bank_can_be_searched_apart() -> None:
    queries, bank = unit(9, 4, seed=0), unit(40, 4, seed=1)
    labels = torch.arange(40) % CLASSES
    whole, first, second = (Neighbors(queries, 5) for _ in range(3))
    whole.add(bank, labels)
    first.add(bank[::2], labels[::2], torch.arange(0, 40, 2))
    second.add(bank[1::2], labels[1::2], torch.arange(1, 40, 2))
    first.merge(second.cosine, second.labels, second.rows)
    assert torch.equal(first.rows, whole.rows)
    assert torch.equal(first.labels, whole.labels)


def test_fewer_rows_than_neighbors_are_said() -> None:
    found = Neighbors(unit(3, 4, seed=0), 5)
    found.add(unit(2, 4, seed=1), torch.tensor([4, 5]))
    assert found.labels[:, 2:].unique().tolist() == [-1]
    assert found.rows[:, 2:].unique().tolist() == [-1]
    assert found.cosine[:, 2:].isinf().all()


@pytest.mark.parametrize(('temperature', 'winner'), [(0.4, 0), (0.5, 1)])
def test_temperature_weighs_one_near_against_two_farther(temperature: float, winner: int) -> None:
    # exp((.9 - .6) / T) > 2 exactly where T < .3 / ln 2 = .4328
    cosine, labels = torch.tensor([[0.9, 0.6, 0.6]]), torch.tensor([[0, 1, 1]])
    assert vote(cosine, labels, temperature).item() == winner
    assert class_votes(cosine, labels, temperature, 2).argmax().item() == winner


def test_few_queries_of_few_classes_are_enough() -> None:
    found = Neighbors(unit(7, 4, seed=0), 2)
    found.add(unit(10, 4, seed=1), torch.arange(10) % 3)
    first, among = right_answers(found.cosine, found.labels, 0.07, torch.arange(7) % 3, 3)
    assert 0 <= first <= among <= 7


def test_memory_is_bounded_by_the_similarities(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbors, 'SIMILARITIES', 64)
    sizes = []
    compare = Neighbors._cosine

    def spy(self: Neighbors, part: slice, features: Tensor) -> Tensor:
        found = compare(self, part, features)
        sizes.append(found.numel())
        return found

    monkeypatch.setattr(Neighbors, '_cosine', spy)
    Neighbors(unit(50, 4, seed=0), 3).add(unit(30, 4, seed=1), torch.zeros(30, dtype=torch.long))
    assert max(sizes) <= 64
    assert sum(sizes) == 50 * 30
