"""Processes on a share of the batch each do what one does on the whole, given the same draws.

Contrastive losses, batch norm, the bank and MOCA's codebook see the images of all processes: were
each process left to its own, or images of the same place in several taken for one, losses and
gradients would differ.
"""

from itertools import combinations
from typing import Any

import pytest
import torch

from tests.pretrain import one_step, shared_steps
from tests.pretrain.shared_steps import IMAGES, NAMES, STEPS, process, take_steps
from tests.processes import run_processes


@pytest.fixture(scope='module', params=[2, 4])
def ranks(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    folder, count = tmp_path_factory.mktemp('ranks'), request.param
    run_processes(process, (count, str(folder)), count)
    return [torch.load(folder / f'rank{rank}.pth', weights_only=False) for rank in range(count)]


@pytest.fixture(scope='module')
def alone() -> dict[str, dict[str, Any]]:
    """What one process does on all images."""
    return {name: take_steps(name, rank=0, world_size=1) for name in NAMES}


@pytest.mark.parametrize('name', NAMES)
def test_processes_equal_one(
    ranks: list[dict[str, Any]], alone: dict[str, dict[str, Any]], name: str
) -> None:
    shared_steps.check_equal([rank[name] for rank in ranks], alone[name], name)


def test_the_bank_holds_the_keys_of_all_processes(
    ranks: list[dict[str, Any]], alone: dict[str, dict[str, Any]]
) -> None:
    state = ranks[0]['MACRLPretrain']['state']
    assert state['bank.pointer'].item() == (IMAGES * STEPS) % 16
    torch.testing.assert_close(
        state['bank.keys'][:IMAGES],
        alone['MACRLPretrain']['state']['bank.keys'][:IMAGES],
        rtol=1e-4,
        atol=1e-5,
    )


def test_processes_of_moca_equal_one(ranks: list[dict[str, Any]]) -> None:
    alone = one_step.take_steps(rank=0, world_size=1)
    one_step.check_equal([rank['MOCAPretrain'] for rank in ranks], alone)


def test_what_each_process_of_moca_draws(ranks: list[dict[str, Any]]) -> None:
    """The same words, from the images of all; masks of its own."""
    draws = [rank['own_draws'] for rank in ranks]
    for ours, theirs in combinations(draws, 2):
        assert ours.word_view == theirs.word_view
        assert torch.equal(ours.word_images, theirs.word_images)
        assert torch.equal(ours.word_tokens, theirs.word_tokens)
        assert not torch.equal(ours.rounds[0].order, theirs.rounds[0].order)
    assert set(draws[0].word_images.tolist()) <= set(range(IMAGES))
    assert len(set(draws[0].word_images.tolist())) == 4
