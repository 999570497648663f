"""Training steps of every method on all images or on this process's share of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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


def take_steps(name: str, rank: int, world_size: int) -> dict[str, Any]:
    """Train on this process's images; returns what each step reports, gradients and changes."""
    model = tiny_method(name)
    model.momentum = 0.9
    share = IMAGES // world_size
    mine = torch.arange(rank * share, (rank + 1) * share)
    give_draws(model, mine)
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
            f'view{number}': whole(1 + number, model.step, 3, 48, 48)[mine]
            for number in range(1, model.num_views + 1)
        }
        values = wrapped.train_step(views, OptimWrapper(optimizer))
        logged.append({key: value.detach() for key, value in values.items()})
    state = model.state_dict()
    changes = {key: value.double() - first[key].double() for key, value in state.items()}
    return dict(logged=logged, gradients=gradients, state=state, changes=changes)


def whole(stream: int, step: int, *shape: int, images: int = IMAGES) -> Tensor:
    """Noise for all images, the same in every process."""
    generator = torch.Generator().manual_seed(1000 * step + stream)
    return torch.randn(images, *shape, generator=generator)


def give_draws(model: Any, mine: Tensor) -> None:
    """Make a method draw for all images, and keep this process's share of it."""

    def random_mask(images: Tensor, visible: int, stream: int = 0) -> MaskRound:
        rows = mine if len(images) == len(mine) else torch.cat([mine, IMAGES + mine])
        order = whole(50 + stream, model.step, 36, images=2 * IMAGES).argsort(1)
        return MaskRound(order[rows], visible, 36)

    def noisy(images: Tensor) -> NoisyDraws:
        rows = torch.cat([mine, IMAGES + mine])
        sigma = whole(60, model.step, images=2 * IMAGES).abs()
        noise = whole(61, model.step, 3, 48, 48, images=2 * IMAGES)
        return NoisyDraws(random_mask(images, model.visible), sigma[rows], noise[rows])

    model.random_mask = random_mask
    if hasattr(model, 'sigma_mlp'):
        model.draw = noisy


def process(rank: int, world_size: int, folder: str) -> None:
    """What each of the processes runs."""
    torch.set_num_threads(1)
    dist.init_process_group(
        'gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=world_size
    )
    result = {name: take_steps(name, rank, world_size) for name in NAMES}
    result['MOCAPretrain'] = one_step.take_steps(rank, world_size)
    result['own_draws'] = tiny_moca().draw(IMAGES // world_size, torch.device('cpu'))
    torch.save(result, Path(folder) / f'rank{rank}.pth')
    dist.destroy_process_group()
