"""What a ViT's class token looks at: attention weights, which fused kernels do not return."""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import Attention
from torch import Tensor

from moca.backbone import PlainViT
from moca.errors import UserError


def attention_weights(attention: Attention, x: Tensor, queries: slice = slice(None)) -> Tensor:
    """The weights that a block's attention takes the mean of its values with.

    Args:
        attention: timm's, in eval mode.
        x: Its input (after the block's first norm), ``[B, N, C]``.
        queries: Which tokens look; all by default.

    Returns:
        ``[B, heads, queries, N]``; each row is of sum 1.
    """
    qkv = attention.qkv(x).unflatten(-1, (3, attention.num_heads, attention.head_dim))
    query, key, _ = qkv.permute(2, 0, 3, 1, 4)
    query, key = attention.q_norm(query[:, :, queries]), attention.k_norm(key)
    return (query * attention.scale @ key.transpose(-2, -1)).softmax(-1)


@torch.no_grad()
def class_attention(model: PlainViT, images: Tensor) -> Tensor:
    """How a backbone's class token attends to each patch, in the last block that it runs.

    As in "Emerging Properties in Self-Supervised Vision Transformers" (arXiv 2104.14294), figure 1,
    and its released visualize_attention.py.

    Args:
        model: In eval mode; the block is the highest of its ``out_indices``.
        images: ``[B, 3, H, W]``, normalised, of whole patches.

    Returns:
        ``[B, heads, H / patch, W / patch]``. A head's sum is 1 less what goes to the class token
        itself and to registers.

    Raises:
        UserError: The ViT has no class token, windows, or attention of another kind.
    """
    block = max(model.out_indices)
    attention: Any = model.blocks[block].attn
    if model.cls_token is None:
        raise UserError('this ViT has no class token: there is no attention of it to draw.')
    if type(attention) is not Attention:
        raise UserError(
            f'block {block} has a {type(attention).__name__}: only the attention of plain ViTs '
            "(timm's Attention) can be drawn."
        )
    seen: list[Tensor] = []
    handle = attention.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        model(images)
    finally:
        handle.remove()
    weights = attention_weights(attention, seen[0], slice(0, 1))[:, :, 0, model.num_prefix_tokens :]
    return weights.unflatten(-1, tuple(side // model.patch_size for side in images.shape[-2:]))
