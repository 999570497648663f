"""Seeds of steps and processes are their own."""

from __future__ import annotations

from itertools import pairwise, product

import pytest
import torch

from moca.engine import seeding
from moca.engine.seeding import mixed_seed, own_generator

CPU = torch.device('cpu')


def test_near_numbers_give_unrelated_seeds() -> None:
    numbers = [*product(range(6), repeat=2), *product(range(6), repeat=3), (2**32,)]
    seeds = [mixed_seed(*each) for each in numbers]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    # half of the bits of neighbors differ, as of any two random numbers
    flipped = [(a ^ b).bit_count() for a, b in pairwise(seeds)]
    assert sum(flipped) / len(flipped) == pytest.approx(31.5, abs=1.5)


def test_processes_steps_and_streams_draw_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    for rank in (0, 1):
        monkeypatch.setattr(seeding, 'get_rank', lambda rank=rank: rank)
        for step, stream in product((0, 1), (None, 0, 1)):
            numbers = torch.rand(4, generator=own_generator(3, step, CPU, stream))
            again = torch.rand(4, generator=own_generator(3, step, CPU, stream))
            assert torch.equal(numbers, again)
            drawn.append(tuple(numbers.tolist()))
    assert len(set(drawn)) == 12
