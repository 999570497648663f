"""The detector as it is usually written, on the weights of ours, to measure ours against."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from mmengine.config import Config
from torch import Tensor, nn

from moca.backbone import PlainViT, vit_dimensions


class StraightforwardViT(PlainViT):
    """A `PlainViT` whose attention is ``softmax(q k^T) v`` in full, and which keeps all of it."""

    def _run(self, x: Tensor, number: int, table: Tensor | None = None) -> Iterator[Tensor]:
        for block in self.blocks[:number]:
            block.attn.fused_attn = False
            x = block(x, table)
            yield x


def straightforward(cfg: Config) -> Config:
    """The config with a :class:`StraightforwardViT` that has neither windows nor recomputation.

    Relative positions, which would cost it another map of all pairs a block, are left out as well.
    """
    cfg = copy.deepcopy(cfg)
    backbone = cfg.model.backbone
    backbone.update(type=StraightforwardViT, grad_checkpoint=False)
    if backbone.get('window_size') is not None:
        # every block sees the whole image; no class token, as in ours
        everywhere = tuple(range(vit_dimensions(backbone.arch).depth))
        backbone.update(global_blocks=everywhere, rel_pos=False)
    return cfg


def with_recomputation(cfg: Config, recompute: bool) -> Config:
    """The config with gradient checkpointing in the backbone, or without."""
    cfg = copy.deepcopy(cfg)
    cfg.model.backbone.grad_checkpoint = recompute
    return cfg


def share_parameters(model: nn.Module, source: nn.Module) -> None:
    """Make a model's parameters the very ones that have their names in another model.

    Versions of one detector then need the memory of one, with its gradients and its optimizer.
    """
    parameters: dict[str, Any] = dict(source.named_parameters())
    for prefix, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            shared = parameters[f'{prefix}.{name}' if prefix else name]
            if shared.shape != parameter.shape:
                raise ValueError(f'{prefix}.{name}: {shared.shape} is not {parameter.shape}')
            setattr(module, name, shared)
