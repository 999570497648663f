"""MOCA at a size that takes milliseconds."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.registry import MODELS

from moca.pretrain.moca import MOCAPretrain


def tiny_moca(img_size: int = 48, **changes: Any) -> MOCAPretrain:
    """An initialised model of four blocks x 32 over 6 x 6 patches, the same at every call."""
    settings: dict[str, Any] = dict(num_words=64, early_layer=2, skip_offset=1)
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type='MOCAPretrain',
            backbone=dict(
                type='PlainViT',
                arch=dict(patch_size=8, embed_dim=32, depth=4, num_heads=4),
                img_size=img_size,
            ),
            decoder=dict(dim=24, depth=1, num_heads=4),
            **{**settings, **changes},
        )
    )
    model.init_weights()
    return model
