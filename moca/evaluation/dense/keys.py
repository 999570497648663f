"""Keys of the last attention, beside the features that come out of it."""

from __future__ import annotations

import torch
from torch import Tensor

from moca.backbone import PlainViT
from moca.evaluation.dense.colors import PatchColors
from moca.evaluation.features import check_finite, patch_map


@torch.no_grad()
def keys_and_features(model: PlainViT, images: Tensor) -> tuple[Tensor, Tensor]:
    """Keys of the last block's attention, and patch features after the final norm.

    Keys are what the layer that makes queries, keys and values gives, with its bias: of rotary
    positions, they are not rotated; where keys are normalized, they are not. Of `PatchColors` both
    are its pixels.

    Args:
        model: In eval mode.
        images: ``[B, 3, H, W]``, normalized; padded with zeros on the right and below to whole
            patches.

    Returns:
        Both ``[B, D, h, w]`` fp32, of patches alone.
    """
    seen: list[Tensor] = []
    layer = model.blocks[-1].attn.qkv
    handle = layer.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    try:
        features = check_finite(patch_map(model, images), 'an image')
    finally:
        handle.remove()
    if isinstance(model, PatchColors):
        return features, features
    keys = seen[0].chunk(3, dim=-1)[1].flatten(1, -2)
    grid = features.shape[-2:]
    # with windows, prefix tokens take no part
    patches = keys[:, keys.shape[1] - grid[0] * grid[1] :]
    return check_finite(patches, 'an image').transpose(1, 2).unflatten(2, grid).float(), features


def which_keys(model: PlainViT) -> str:
    """What `keys_and_features` takes of a model, for the record."""
    if isinstance(model, PatchColors):
        return 'pixels'
    where = 'keys of the last attention, not of unit length'
    return where if model.rope is None else f'{where}, before rotary positions'
