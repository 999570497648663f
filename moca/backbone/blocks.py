"""Running transformer blocks: which attention kernel, and recomputation to save memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def run_blocks(
    blocks: Iterable[Any],
    x: Tensor,
    grad_checkpoint: bool = False,
    table: Tensor | None = None,
    mask: Tensor | None = None,
) -> Iterator[Tensor]:
    """Run timm blocks one after the other and yield what each returns, ``[B, N, C]``.

    Args:
        blocks: Blocks with an ``attn`` of timm.
        x: Tokens, ``[B, N, C]``.
        grad_checkpoint: Recompute activations in the backward pass.
        table: Of rotary positions, see :mod:`moca.backbone.rope`; timm's blocks hand it on to
            their attention, in the place of a mask.
        mask: Which token may look at which, boolean ``[B, 1, N, N]``; None for all.
    """
    fused = prefer_fused_attention(x)
    beside = table if mask is None else mask if table is None else (table, mask)
    for block in blocks:
        block.attn.fused_attn = fused
        if grad_checkpoint and torch.is_grad_enabled():
            x = checkpoint(block, x, beside, use_reentrant=False)
        else:
            x = block(x, beside)
        yield x


def prefer_fused_attention(x: Tensor) -> bool:
    """Whether ``scaled_dot_product_attention`` beats plain matrix products for this input."""
    if x.device.type != 'cpu':
        return True
    half = x.dtype == torch.bfloat16 or (
        torch.is_autocast_enabled('cpu') and torch.get_autocast_dtype('cpu') == torch.bfloat16
    )
    return not half
