"""One training step of a tiny MOCA on all images or on this process's share of them."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from torch import Tensor

from moca.pretrain.moca.draws import Draws
from moca.pretrain.moca.method import MOCAPretrain
from moca.pretrain.parts.masking import complementary_rounds
from tests.pretrain.tiny import tiny_moca

IMAGES = 8


def take_steps(rank: int, world_size: int, steps: int = 2) -> dict[str, Any]:
    """Train on this process's images; returns losses, gradients and codebook."""
    model = tiny_moca()
    share = IMAGES // world_size
    mine = slice(rank * share, (rank + 1) * share)
    gradients: dict[str, Tensor] = {}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    # before the step, which clears them; DDP has averaged them by then
    optimizer.register_step_pre_hook(
        lambda *_: gradients.update(
            {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        )
    )
    step_model: Any = (
        # as configs/pretrain: nothing but gradients travels by itself
        MMDistributedDataParallel(model, broadcast_buffers=False) if world_size > 1 else model
    )
    model.momentum = 0.9
    losses = []
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        views = [torch.randn(IMAGES, 3, 48, 48, generator=generator)[mine] for _ in range(2)]
        batch = dict(view1=views[0], view2=views[1], draws=share_of_draws(model, step, mine))
        logged = step_model.train_step(batch, OptimWrapper(optimizer))
        losses.append(torch.stack([logged[name].detach() for name in ('kl_image', 'kl_dense')]))
    return dict(
        losses=torch.stack(losses), gradients=gradients, codebook=model.codebook.state_dict()
    )


def share_of_draws(model: MOCAPretrain, step: int, mine: slice) -> Draws:
    """Draws for all images, cut to a share of them."""
    generator = torch.Generator().manual_seed(100 + step)
    order = torch.rand(2 * IMAGES, 36, generator=generator).argsort(1)
    rows = torch.cat([torch.arange(IMAGES)[mine], IMAGES + torch.arange(IMAGES)[mine]])
    return Draws(
        rounds=complementary_rounds(order[rows], model.round_sizes),
        word_view=step % 2,
        word_images=torch.randperm(IMAGES, generator=generator)[:4],
        word_tokens=model.central[torch.randint(len(model.central), (4,), generator=generator)],
    )
