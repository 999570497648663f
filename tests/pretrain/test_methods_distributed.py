"""Two processes on half the batch each do what one does on the whole, for every sibling of MOCA.

MOCA itself is in test_distributed.py. Contrastive losses, batch norm and the bank see the images
of both processes: were each process left to its own, or images of the same place in both taken
for one, losses and gradients would differ.
"""

from typing import Any

import pytest
import torch

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


@pytest.fixture(scope='module')
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp('ranks')
    run_processes(process, (2, str(folder)))
    return [torch.load(folder / f'rank{rank}.pth', weights_only=False) for rank in range(2)]


@pytest.mark.parametrize('name', NAMES)
def test_two_processes_equal_one(ranks: list[dict[str, Any]], name: str) -> None:
    first, second = (rank[name] for rank in ranks)
    one = take_steps(name, rank=0, world_size=1)
    for step in range(STEPS):
        for key, value in one['logged'][step].items():
            both = (first['logged'][step][key] + second['logged'][step][key]) / 2
            torch.testing.assert_close(both, value, rtol=1e-4, atol=1e-7, msg=key)
        for key, value in one['gradients'][step].items():
            assert torch.equal(first['gradients'][step][key], second['gradients'][step][key]), key
            difference = (first['gradients'][step][key] - value).abs().max()
            # weights have moved a little apart by the second step
            bound = 1e-4 if step == 0 else 1e-3
            assert difference <= bound * value.abs().max() + 1e-8, key
    # with what no gradient reaches: batch norm's averages, the teacher, the bank
    moved = set()
    for key, change in one['changes'].items():
        assert torch.equal(first['state'][key], second['state'][key]), key
        difference = (first['changes'][key] - change).abs().max()
        # float32 holds a change no better than its value: 1e-7 of it, a few times
        value = one['state'][key].double().abs().max()
        assert difference <= 1e-3 * change.abs().max() + 1e-6 * value, key
        if change.abs().max() > 1e-4 * value:
            moved.add(key.split('.')[0])
    assert moved >= MOVING[name]


def test_the_bank_holds_the_keys_of_both_processes(ranks: list[dict[str, Any]]) -> None:
    one = take_steps('MACRLPretrain', rank=0, world_size=1)
    state = ranks[0]['MACRLPretrain']['state']
    assert state['bank.pointer'].item() == (IMAGES * STEPS) % 16
    torch.testing.assert_close(
        state['bank.keys'][:IMAGES], one['state']['bank.keys'][:IMAGES], rtol=1e-4, atol=1e-5
    )
