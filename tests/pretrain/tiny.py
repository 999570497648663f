"""The methods at a size that takes milliseconds."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.registry import MODELS

from moca.pretrain.moca.method import MOCAPretrain

ARCH = dict(patch_size=8, embed_dim=32, depth=4, num_heads=4)
# what each needs beside a backbone of 6 x 6 patches
SETTINGS: dict[str, dict[str, Any]] = dict(
    MOCAPretrain=dict(
        num_words=64, early_layer=2, skip_offset=1, decoder=dict(dim=24, depth=1, num_heads=4)
    ),
    MAEPretrain=dict(decoder=dict(dim=24, depth=1, num_heads=4)),
    CANPretrain=dict(
        decoder=dict(dim=24, depth=1, num_heads=4), projector=dict(hidden_dim=16, out_dim=8)
    ),
    MACRLPretrain=dict(
        decoder=dict(dim=24, depth=1, num_heads=4),
        projector=dict(hidden_dim=16, out_dim=8),
        bank_size=16,
    ),
    MOMAPretrain=dict(
        teachers=dict(
            moco=dict(arch={**ARCH, 'embed_dim': 48}), mae=dict(arch={**ARCH, 'depth': 2})
        )
    ),
)
METHODS = tuple(SETTINGS)


def tiny_method(name: str, img_size: int = 48, **changes: Any) -> Any:
    """An initialized model of four blocks x 32 over 6 x 6 patches, the same at every call."""
    torch.manual_seed(0)
    backbone = dict(type='PlainViT', arch=ARCH, img_size=img_size)
    model = MODELS.build(dict(type=name, backbone=backbone) | SETTINGS[name] | changes)
    model.init_weights()
    return model


def tiny_moca(img_size: int = 48, **changes: Any) -> MOCAPretrain:
    """MOCA at this size."""
    return tiny_method('MOCAPretrain', img_size, **changes)


def random_views(method: Any, batch: int = 4, size: int = 48, seed: int = 0) -> dict[str, Any]:
    """Noise instead of images, as many views as a method takes."""
    generator = torch.Generator().manual_seed(seed)
    return {
        f'view{number}': torch.randn(batch, 3, size, size, generator=generator)
        for number in range(1, method.num_views + 1)
    }
