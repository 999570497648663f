"""Training steps of every method on all images or on this process's share of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from torch import Tensor

from moca.pretrain.can import NoisyDraws
from moca.pretrain.parts.masking import MaskRound
from tests.pretrain import one_step
from tests.pretrain.tiny import tiny_method, tiny_moca

IMAGES, STEPS = 8, 2
NAMES = ('MAEPretrain', 'CANPretrain', 'MACRLPretrain', 'MOMAPretrain')


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


def take_steps(
    name: str, rank: int, world_size: int, images: int = IMAGES, seed: int = 0
) -> dict[str, Any]:
    """Train on this process's images; returns what each step reports, gradients and changes."""
    model = tiny_method(name, **({'bank_size': 2 * images} if name == 'MACRLPretrain' else {}))
    model.momentum = 0.9
    share = images // world_size
    mine = torch.arange(rank * share, (rank + 1) * share)
    draws = Noise(images, seed)
    give_draws(model, mine, draws)
    gradients: list[dict[str, Tensor]] = []
    # SGD, which unlike Adam makes no large steps of small differences; far enough to be seen
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)
    first = {key: value.clone() for key, value in model.state_dict().items()}
    # before the step, which clears them; DDP has averaged them by then
    optimizer.register_step_pre_hook(
        lambda *_: gradients.append(
            {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        )
    )
    wrapped: Any = (
        MMDistributedDataParallel(model, broadcast_buffers=False) if world_size > 1 else model
    )
    logged = []
    for model.step in range(STEPS):
        views = {
            f'view{number}': draws.whole(1 + number, model.step, 3, 48, 48)[mine]
            for number in range(1, model.num_views + 1)
        }
        values = wrapped.train_step(views, OptimWrapper(optimizer))
        logged.append({key: value.detach() for key, value in values.items()})
    state = model.state_dict()
    changes = {key: value.double() - first[key].double() for key, value in state.items()}
    return dict(logged=logged, gradients=gradients, state=state, changes=changes)


class Noise(NamedTuple):
    """Noise for all images, the same in every process."""

    images: int
    seed: int

    def whole(self, stream: int, step: int, *shape: int, times: int = 1) -> Tensor:
        """Of as many images, or views of them, ``[images * times, *shape]``."""
        generator = torch.Generator().manual_seed(1_000_000 * self.seed + 1000 * step + stream)
        return torch.randn(times * self.images, *shape, generator=generator)


def give_draws(model: Any, mine: Tensor, draws: Noise) -> None:
    """Make a method draw for all images, and keep this process's share of it."""

    def random_mask(images: Tensor, visible: int, stream: int = 0) -> MaskRound:
        rows = mine if len(images) == len(mine) else torch.cat([mine, draws.images + mine])
        order = draws.whole(50 + stream, model.step, 36, times=2).argsort(1)
        return MaskRound(order[rows], visible, 36)

    def noisy(images: Tensor) -> NoisyDraws:
        rows = torch.cat([mine, draws.images + mine])
        sigma = draws.whole(60, model.step, times=2).abs()
        noise = draws.whole(61, model.step, 3, 48, 48, times=2)
        return NoisyDraws(random_mask(images, model.visible), sigma[rows], noise[rows])

    model.random_mask = random_mask
    if hasattr(model, 'sigma_mlp'):
        model.draw = noisy


def check_equal(ranks: Sequence[dict[str, Any]], one: dict[str, Any], name: str) -> None:
    """Hold the steps of processes against those of one.

    Args:
        ranks: What `take_steps` returned in each.
        one: And in a single process.
        name: Of the method.

    Raises:
        AssertionError: They differ by more than rounding, or nothing has moved.
    """
    first, *others = ranks
    for step in range(STEPS):
        for key, value in one['logged'][step].items():
            mean = sum(rank['logged'][step][key] for rank in ranks) / len(ranks)
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
    assert moved >= MOVING[name], moved


def process(rank: int, world_size: int, folder: str) -> None:
    """What each of the processes runs."""
    torch.set_num_threads(1)
    dist.init_process_group(
        'gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=world_size
    )
    result: dict[str, Any] = {name: take_steps(name, rank, world_size) for name in NAMES}
    result['MOCAPretrain'] = one_step.take_steps(rank, world_size)
    result['own_draws'] = tiny_moca().draw(IMAGES // world_size, torch.device('cpu'))
    torch.save(result, Path(folder) / f'rank{rank}.pth')
    dist.destroy_process_group()
