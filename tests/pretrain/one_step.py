"""One training step of a tiny MOCA on all images or on this process's share of them."""

from __future__ import annotations

from collections.abc import Sequence
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


def take_steps(
    rank: int, world_size: int, steps: int = 2, images: int = IMAGES, seed: int = 0
) -> dict[str, Any]:
    """Train on this process's images; returns losses, gradients and codebook."""
    model = tiny_moca()
    share = images // world_size
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
        generator = torch.Generator().manual_seed(1000 * seed + step)
        views = [torch.randn(images, 3, 48, 48, generator=generator)[mine] for _ in range(2)]
        draws = share_of_draws(model, step, mine, images, seed)
        batch = dict(view1=views[0], view2=views[1], draws=draws)
        logged = step_model.train_step(batch, OptimWrapper(optimizer))
        losses.append(torch.stack([logged[name].detach() for name in ('kl_image', 'kl_dense')]))
    return dict(
        losses=torch.stack(losses), gradients=gradients, codebook=model.codebook.state_dict()
    )


def check_equal(ranks: Sequence[dict[str, Any]], one: dict[str, Any]) -> None:
    """Hold the steps of processes against those of one; raises AssertionError where they differ."""
    first, *others = ranks
    for name, value in one['codebook'].items():
        assert all(torch.equal(first['codebook'][name], o['codebook'][name]) for o in others), name
        torch.testing.assert_close(first['codebook'][name], value, rtol=0, atol=1e-6)
    mean = torch.stack([rank['losses'] for rank in ranks]).mean(0)
    torch.testing.assert_close(mean, one['losses'], rtol=1e-5, atol=0)
    for name, value in one['gradients'].items():
        assert all(torch.equal(first['gradients'][name], o['gradients'][name]) for o in others)
        difference = (first['gradients'][name] - value).abs().max()
        # the key's bias has a true gradient of zero: its rounding is measured against the tensor
        assert difference <= 1e-5 * value.abs().max() + 1e-9, name
    assert first['codebook']['pointer'].item() == 8


def share_of_draws(
    model: MOCAPretrain, step: int, mine: slice, images: int = IMAGES, seed: int = 0
) -> Draws:
    """Draws for all images, cut to a share of them."""
    generator = torch.Generator().manual_seed(1000 * seed + 100 + step)
    order = torch.rand(2 * images, 36, generator=generator).argsort(1)
    rows = torch.cat([torch.arange(images)[mine], images + torch.arange(images)[mine]])
    return Draws(
        rounds=complementary_rounds(order[rows], model.round_sizes),
        word_view=step % 2,
        word_images=torch.randperm(images, generator=generator)[:4],
        word_tokens=model.central[torch.randint(len(model.central), (4,), generator=generator)],
    )
