"""What rotary positions cost: a training step of a ViT with them and without, in turn."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

import torch

from moca.backbone import PlainViT, vit_dimensions
from moca.backbone.arch import build_vit
from moca.engine.memory import keep_freed_memory
from moca.errors import UserError
from tools.benchmarks.measure import take_turns
from tools.benchmarks.table import quiet

PLAIN, ROTARY = 'learned positions', 'rotary positions'


@dataclass(frozen=True)
class RopeCost:
    """Seconds of each timed step by version, at one size of images.

    Attributes:
        size: Sides in pixels.
        patches: Of an image.
        prefix: Tokens in front of them.
        seconds: By version, of each turn.
    """

    size: int
    patches: int
    prefix: int
    seconds: dict[str, list[float]]

    @property
    def ratio(self) -> float:
        """Median over the turns of the time with rotary positions over that without."""
        pairs = zip(self.seconds[ROTARY], self.seconds[PLAIN], strict=True)
        return statistics.median(rotary / plain for rotary, plain in pairs)

    def __str__(self) -> str:
        plain, rotary = (statistics.median(self.seconds[name]) for name in (PLAIN, ROTARY))
        tokens = self.patches + self.prefix
        return (
            f'{self.size:5} px {tokens:6} tokens {plain:10.3f} s {rotary:10.3f} s {self.ratio:8.3f}'
        )


def dimensions(arch: str) -> dict[str, Any]:
    """A name's architecture as a dict, which can have rotary positions.

    Raises:
        UserError: It is no ViT of one class token and plain MLPs.
    """
    with torch.device('meta'):
        vit = build_vit(arch)
    names = {name for name, _ in vit.named_parameters() if not name.startswith('blocks.')}
    expected = {'cls_token', 'pos_embed', 'norm.weight', 'norm.bias'}
    if names != expected | {'patch_embed.proj.weight', 'patch_embed.proj.bias'}:
        raise UserError(f'--arch {arch}: choose a ViT with a class token and learned positions.')
    sizes = vit_dimensions(arch)
    return dict(
        patch_size=sizes.patch_size,
        embed_dim=sizes.embed_dim,
        depth=sizes.depth,
        num_heads=sizes.num_heads,
    )


@quiet()
def measure_rope(
    arch: str, size: int, batch: int, steps: int, dtype: str, device: torch.device
) -> RopeCost:
    """Forward and backward passes of two ViTs that differ in their positions alone, in turn.

    Args:
        arch: A timm name.
        size: Sides of the images in pixels.
        batch: Images a step.
        steps: Timed ones of each version, after one that is not.
        dtype: ``float32``, ``bfloat16`` or ``float16``, the latter two by autocast.
        device: Where to run.

    Raises:
        UserError: A number is not positive, or the architecture is another.
    """
    if min(batch, steps, size) < 1:
        raise UserError('--batch-size, --steps and --size must be 1 or more.')
    if device.type == 'cpu':
        keep_freed_memory()
    settings = dimensions(arch)
    images = torch.randn(batch, 3, size, size, device=device)
    positions: dict[str, dict[str, Any]] = {PLAIN: {}, ROTARY: {'rope': {}}}
    models = {
        name: PlainViT({**settings, **own}, img_size=size).to(device).train()
        for name, own in positions.items()
    }
    for model in models.values():
        model.init_weights()

    def step(model: PlainViT) -> None:
        half = dtype != 'float32'
        with torch.autocast(device.type, getattr(torch, dtype) if half else None, enabled=half):
            (out,) = model(images)
        out.float().square().mean().backward()
        model.zero_grad()

    calls = {name: lambda _, model=model: step(model) for name, model in models.items()}
    plain = models[PLAIN]
    patches = plain.grid[0] * plain.grid[1]
    return RopeCost(size, patches, plain.num_prefix_tokens, take_turns(calls, steps, device))
