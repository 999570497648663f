"""Rotary positions: DINOv3's, for a grid of any size, in whole attention and in windows."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import Attention, RotaryEmbeddingDinoV3, apply_rot_embed_cat
from torch import Tensor, nn

from moca.errors import UserError


class RotaryPositions(nn.Module):
    """Angles of DINOv3's rotary positions, computed once a size.

    A patch lies at ((row + .5) / rows, (column + .5) / columns), scaled to -1 to 1; each coordinate
    turns a quarter of a head's channels by ``2 pi coordinate / period`` and is used twice. Source:
    facebookresearch/dinov3, layers/rope_position_encoding.py; timm's `RotaryEmbeddingDinoV3`.

    The periods are a buffer that checkpoints hold: published files have them rounded to bfloat16,
    and those count.

    Args:
        head_dim: channels of a head.
        base: of the periods ``base ** (2 k / (head_dim / 2))``.
        rescale: the training-time augmentation of the source: coordinates times a number drawn
            log-uniformly from 1 / rescale to rescale, the same for all images of a batch. None, as
            here by default, leaves it out; DINOv3's pre-training and fine-tuning had 2.
    """

    periods: Tensor

    def __init__(self, head_dim: int, base: float = 100.0, rescale: float | None = None) -> None:
        super().__init__()
        if head_dim % 4:
            raise UserError(f'rope: heads have {head_dim} channels, which is no multiple of 4.')
        self.rotary = RotaryEmbeddingDinoV3(head_dim, temperature=base, rescale_coords=rescale)
        periods = base ** (2 * torch.arange(head_dim // 4) / (head_dim // 2))
        self.register_buffer('periods', periods.float())
        self.base = base
        self._tables: dict[tuple[Any, ...], Tensor] = {}

    def reset(self) -> None:
        """Compute the periods anew, in fp32."""
        count = len(self.periods)
        exponents = 2 * torch.arange(count, device=self.periods.device) / (2 * count)
        self.periods.copy_(self.base**exponents)

    def forward(self, grid: tuple[int, int]) -> Tensor:
        """Sines, then cosines, of a grid: ``[rows * columns, 2 * head_dim]``, row by row, fp32."""
        augmented = self.training and self.rotary.aug_active
        key = (*grid, self.periods.device, self.periods._version)
        if not augmented and key in self._tables:
            return self._tables[key]
        self.rotary.periods = self.periods.float()
        with torch.no_grad():
            table = self.rotary._create_embed(list(grid), no_aug=not augmented)
        if not augmented:
            self._tables = {key: table}  # of one size at a time
        return table

    def __deepcopy__(self, memo: dict[int, Any]) -> RotaryPositions:
        """Copy without the tables, which are computed again where they are needed."""
        new = type(self).__new__(type(self))
        memo[id(self)] = new
        nn.Module.__init__(new)
        for key, value in self.__dict__.items():
            new.__dict__[key] = {} if key == '_tables' else copy.deepcopy(value, memo)
        return new


def with_unrotated(table: Tensor, count: int) -> Tensor:
    """Put `count` tokens in front of a table ``[..., N, 2 * d]`` that are not rotated."""
    shape = (*table.shape[:-2], count, table.shape[-1] // 2)
    still = torch.cat([table.new_zeros(shape), table.new_ones(shape)], dim=-1)
    return torch.cat([still, table], dim=-2)


class RopeAttention(Attention):
    """timm's attention whose queries and keys are rotated.

    The table comes with the tokens, in the place of a mask, which timm's blocks hand on: no state
    is left behind in the module, so that recomputing a block in the backward pass sees the same.
    """

    @classmethod
    def of(cls, attention: Attention) -> RopeAttention:
        """Turn timm's attention into this one, with the very same weights."""
        self = cls.__new__(cls)
        self.__dict__.update(attention.__dict__)
        return self

    def forward(
        self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        """Attend with rotated queries and keys.

        Args:
            x: ``[B, N, C]``.
            attn_mask: the table, ``[N, 2 * head_dim]`` or ``[B, N, 2 * head_dim]``.
            is_causal: False; timm's blocks pass it on.
        """
        return rotated_attention(self, x, attn_mask)


def rotated_attention(attention: Any, x: Tensor, table: Tensor | None) -> Tensor:
    """What timm's `Attention` makes of ``[B, N, C]``, with rotated queries and keys.

    Args:
        attention: timm's, or one derived from it.
        x: ``[B, N, C]``.
        table: see `RopeAttention.forward`; None rotates nothing.
    """
    q, k, v = attention.qkv(x).unflatten(-1, (3, attention.num_heads, -1)).unbind(2)
    q, k, v = (part.transpose(1, 2) for part in (attention.q_norm(q), attention.k_norm(k), v))
    if table is not None:
        q, k = (rotated(part, table).to(v.dtype) for part in (q, k))
    dropout = attention.attn_drop.p if attention.training else 0.0
    if attention.fused_attn:
        out = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
    else:
        weights = ((q * attention.scale) @ k.transpose(-2, -1)).softmax(-1)
        out = attention.attn_drop(weights) @ v
    out = attention.norm(out.transpose(1, 2).flatten(2))
    return attention.proj_drop(attention.proj(out))


def rotated(x: Tensor, table: Tensor) -> Tensor:
    """Rotate queries or keys ``[B, heads, N, d]`` by a table; see `RopeAttention.forward`."""
    return apply_rot_embed_cat(x, table if table.ndim == 2 else table[:, None], half=True)


def rounded_periods(periods: Tensor, base: float) -> bool:
    """Whether periods ``[head_dim / 4]`` are those of a base rounded to bfloat16, and not in fp32.

    Raises:
        UserError: They are neither, so that no other program computes them from the base.
    """
    periods = periods.float()
    exact = base ** (torch.arange(len(periods), device=periods.device) / len(periods))
    if torch.allclose(periods, exact, rtol=1e-5, atol=0):
        return False
    if torch.equal(periods, exact.bfloat16().float()):
        return True
    raise UserError(
        f'rope.periods: those of the checkpoint are not those of base {base:g}, from which timm '
        'and transformers compute them; it can be used here alone.'
    )


ROUNDED = (
    "The file's rotary periods are rounded to bfloat16; {} computes them in fp32, which changes "
    'features by some thousandths.'
)
"""What to say of a program that takes no periods from a file, where `rounded_periods`."""
