"""Processes on a share of the batch each do what one does on the whole, given the same draws.

Contrastive losses, batch norm, the bank and MOCA's codebook see the images of all processes: were
each process left to its own, or images of the same place in several taken for one, losses and
gradients would differ.
"""

from itertools import combinations
from typing import Any

import pytest
import torch

from tests.pretrain import one_step
from tests.pretrain.shared_steps import IMAGES, NAMES, STEPS, process, take_steps
from tests.processes import run_processes

# what has to have moved by far more than the tolerances
MOVING = {
    'MAEPretrain': {'student', 'decoder'},
    'CANPretrain': {'student', 'decoder', 'projector', 'sigma_mlp'},
    'MACRLPretrain': {
        *('student', 'decoder', 'projector', 'bank'),
        *('teacher', 'teacher_projector'),
    },
    'MOMAPretrain': {'student', 'projectors'},
}


@pytest.fixture(scope='module', params=[2, 4])
def ranks(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    folder, count = tmp_path_factory.mktemp('ranks'), request.param
    run_processes(process, (count, str(folder)), count, start_method='forkserver')
    return [torch.load(folder / f'rank{rank}.pth', weights_only=False) for rank in range(count)]


@pytest.fixture(scope='module')
def alone() -> dict[str, dict[str, Any]]:
    """What one process does on all images."""
    return {name: take_steps(name, rank=0, world_size=1) for name in NAMES}


@pytest.mark.parametrize('name', NAMES)
def test_processes_equal_one(
    ranks: list[dict[str, Any]], alone: dict[str, dict[str, Any]], name: str
) -> None:
    first, *others = (rank[name] for rank in ranks)
    one = alone[name]
    for step in range(STEPS):
        for key, value in one['logged'][step].items():
            mean = sum(rank[name]['logged'][step][key] for rank in ranks) / len(ranks)
            torch.testing.assert_close(mean, value, rtol=1e-4, atol=1e-7, msg=key)
        for key, value in one['gradients'][step].items():
            ours = first['gradients'][step][key]
            assert all(torch.equal(ours, other['gradients'][step][key]) for other in others), key
            # weights have moved a little apart by the second step
            bound = 1e-4 if step == 0 else 1e-3
            assert (ours - value).abs().max() <= bound * value.abs().max() + 1e-8, key
    # with what no gradient reaches: batch norm's averages, the teacher, the bank
    moved = set()
    for key, change in one['changes'].items():
        assert all(torch.equal(first['state'][key], other['state'][key]) for other in others), key
        difference = (first['changes'][key] - change).abs().max()
        # float32 holds a change no better than its value: 1e-7 of it, a few times
        value = one['state'][key].double().abs().max()
        assert difference <= 1e-3 * change.abs().max() + 1e-6 * value, key
        if change.abs().max() > 1e-4 * value:
            moved.add(key.split('.')[0])
    assert moved >= MOVING[name]


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
    first, *others = (rank['MOCAPretrain'] for rank in ranks)
    one = one_step.take_steps(rank=0, world_size=1)
    for name, value in one['codebook'].items():
        assert all(torch.equal(first['codebook'][name], o['codebook'][name]) for o in others), name
        torch.testing.assert_close(first['codebook'][name], value, rtol=0, atol=1e-6)
    mean = torch.stack([rank['MOCAPretrain']['losses'] for rank in ranks]).mean(0)
    torch.testing.assert_close(mean, one['losses'], rtol=1e-5, atol=0)
    for name, value in one['gradients'].items():
        assert all(torch.equal(first['gradients'][name], o['gradients'][name]) for o in others)
        difference = (first['gradients'][name] - value).abs().max()
        # the key's bias has a true gradient of zero: its rounding is measured against the tensor
        assert difference <= 1e-5 * value.abs().max() + 1e-9, name
    assert first['codebook']['pointer'].item() == 8


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
