"""A tiny mask transformer, and a batch for it."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.structures import InstanceData

from moca.backbone import PlainViT
from moca.eomt.network import MaskTransformer

ARCH: dict[str, Any] = dict(
    patch_size=16, embed_dim=32, depth=4, num_heads=2, reg_tokens=2, no_embed_class=True
)


def tiny_network(
    queries: int = 5, blocks: int = 2, classes: int = 3, **vit: Any
) -> MaskTransformer:
    """A network for images of 64 x 64, weights drawn far from their start."""
    torch.manual_seed(0)
    vit = {'arch': ARCH, 'img_size': 64, **vit}
    network = MaskTransformer(PlainViT(**vit), classes, queries, blocks)
    for parameter in network.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    return network


def two_targets() -> list[InstanceData]:
    """Two masks of the first image, one of the second."""
    masks = torch.zeros(3, 64, 64, dtype=torch.bool)
    masks[0, :32], masks[1, 40:, :20], masks[2, 10:50, 30:] = True, True, True
    return [
        InstanceData(labels=torch.tensor([0, 2]), masks=masks[:2]),
        InstanceData(labels=torch.tensor([1]), masks=masks[2:]),
    ]
