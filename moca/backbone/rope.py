"""Rotary positions, for a grid of any size, in whole attention and in windows."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import (
    Attention,
    RotaryEmbeddingDinoV3,
    apply_rot_embed_cat,
    build_rotary_pos_embed,
)
from torch import Tensor, nn

from moca.errors import UserError

KINDS = ('dinov3', 'interleaved', 'learned')
"""Of rotary positions, see `RotaryPositions`."""


class RotaryPositions(nn.Module):
    """Angles of rotary positions, computed once a size.

    Three kinds. ``dinov3``: a patch lies at ((row + .5) / rows, (column + .5) / columns), scaled to
    -1 to 1; each coordinate turns a quarter of a head's channels by ``2 pi coordinate / period``
    and is used twice, for both halves of the channels. Source: facebookresearch/dinov3,
    layers/rope_position_encoding.py. The periods are a buffer that checkpoints hold: published
    files have them rounded to bfloat16, and those count.

    ``interleaved``: patches lie at whole numbers, which are scaled to a reference grid; neighboring
    channels are turned together. Source: EVA-02 and Perception Encoder, as timm builds them.

    These two are computed by timm. ``learned``: patches lie at numbers from 0 to 1, first and last
    row (and column) included; every block turns by ``coordinate * frequency`` with frequencies of
    its own, see `RopeAttention.add_frequencies`. The table is that of coordinates. Registers have
    places on the edge of the patches. Source: facebookresearch/capi, model.py.

    Args:
        head_dim: channels of a head.
        kind: ``dinov3`` or ``interleaved``.
        base: of the periods ``base ** (2 k / (head_dim / 2))``.
        rescale: of ``dinov3``, the training-time augmentation of the source: coordinates times a
            number drawn log-uniformly from 1 / rescale to rescale, the same for all images of a
            batch. None, as here by default, leaves it out; DINOv3's pre-training, and fine-tuning
            with its own code or transformers, had 2.
        reference: rows and columns that the positions of ``interleaved`` are scaled to.
        offset: added to them.
        order: ``ij``, or ``xy`` for columns first.

    Raises:
        UserError: an argument is unknown or does not fit.
    """

    periods: Tensor | None

    def __init__(
        self,
        head_dim: int,
        kind: str = 'dinov3',
        base: float | None = None,
        rescale: float | None = None,
        reference: Sequence[int] | None = None,
        offset: float = 0.0,
        order: str = 'ij',
    ) -> None:
        super().__init__()
        if head_dim % 4:
            raise UserError(f'rope: heads have {head_dim} channels, which is no multiple of 4.')
        if kind not in KINDS:
            raise UserError(f'rope.kind={kind!r}: choose {", ".join(KINDS)}.')
        self.kind, self.head_dim = kind, head_dim
        self.halves = kind != 'interleaved'
        self.base = base or (100.0 if kind == 'dinov3' else 10_000.0)
        self.options: dict[str, Any] = dict(
            ref_feat_shape=None if reference is None else list(reference),
            grid_offset=offset,
            grid_indexing=order,
        )
        self.rotary = RotaryEmbeddingDinoV3(head_dim, self.base, rescale_coords=rescale)
        self.register_buffer('periods', self._computed() if kind == 'dinov3' else None)
        self._tables: dict[tuple[Any, ...], Tensor] = {}

    def _computed(self) -> Tensor:
        count = self.head_dim // 4
        return self.base ** (2 * torch.arange(count, dtype=torch.float32) / (2 * count))

    def reset(self) -> None:
        """Compute the periods anew, in fp32."""
        if self.periods is not None:
            self.periods.copy_(self._computed())

    def forward(self, grid: tuple[int, int], device: torch.device | None = None) -> Tensor:
        """Sines, then cosines, of a grid: ``[rows * columns, 2 * head_dim]``, row by row, fp32.

        Of ``learned``, the coordinates: ``[rows * columns, 2]``.
        """
        augmented = self.training and self.rotary.aug_active
        version = None if self.periods is None else self.periods._version
        key = (*grid, device, version)
        if not augmented and key in self._tables:
            return self._tables[key]
        with torch.no_grad():
            table = self._table(grid, augmented).to(device)
        if not augmented:
            self._tables = {key: table}  # of one size at a time
        return table

    def _table(self, grid: tuple[int, int], augmented: bool) -> Tensor:
        if self.periods is not None:
            self.rotary.periods = self.periods.float()
            return self.rotary._create_embed(list(grid), no_aug=not augmented)
        if self.kind == 'learned':
            return torch.cartesian_prod(*(torch.linspace(0, 1, side) for side in grid))
        parts = build_rotary_pos_embed(
            list(grid),
            dim=self.head_dim,
            temperature=self.base,
            in_pixels=False,
            **self.options,
        )
        return torch.cat(parts, dim=-1)

    def with_prefix(self, table: Tensor, count: int) -> Tensor:
        """Put the rows of `count` prefix tokens in front of a table ``[..., N, D]`` of patches.

        They are not rotated; those of ``learned`` lie on the edge of the patches that are there.
        """
        if self.kind != 'learned':
            return with_unrotated(table, count)
        low, high = table.amin(-2, keepdim=True), table.amax(-2, keepdim=True)
        return torch.cat([low + edge_places(count).to(table) * (high - low), table], dim=-2)

    def __deepcopy__(self, memo: dict[int, Any]) -> RotaryPositions:
        """Copy without the tables, which are computed again where they are needed."""
        new = type(self).__new__(type(self))
        memo[id(self)] = new
        nn.Module.__init__(new)
        for key, value in self.__dict__.items():
            new.__dict__[key] = {} if key == '_tables' else copy.deepcopy(value, memo)
        return new


def edge_places(count: int) -> Tensor:
    """Places ``[count, 2]`` around the square from 0 to 1, a quarter of them on each side."""
    step = torch.arange(count // 4) / max(count // 4, 1)
    zero, one = torch.zeros_like(step), torch.ones_like(step)
    sides = ((step, zero), (one, step), (1 - step, one), (zero, 1 - step))
    return torch.cat([torch.stack(side, dim=-1) for side in sides])


def with_unrotated(table: Tensor, count: int) -> Tensor:
    """Put `count` tokens in front of a table ``[..., N, 2 * d]`` that are not rotated.

    Of coordinates ``[..., N, 2]`` the origin rotates by nothing.
    """
    if table.shape[-1] == 2:
        return F.pad(table, (0, 0, count, 0))
    shape = (*table.shape[:-2], count, table.shape[-1] // 2)
    still = torch.cat([table.new_zeros(shape), table.new_ones(shape)], dim=-1)
    return torch.cat([still, table], dim=-2)


class RopeAttention(Attention):
    """timm's attention whose queries and keys are rotated.

    The table comes with the tokens, in the place of a mask, which timm's blocks hand on: no state
    is left behind in the module, so that recomputing a block in the backward pass sees the same.
    """

    rotate_halves: bool
    freqs: Tensor  # [2, head_dim], only where the table is one of coordinates

    @classmethod
    def of(cls, attention: Attention, halves: bool = True) -> RopeAttention:
        """Turn timm's attention into this one, with the very same weights.

        Args:
            attention: timm's.
            halves: Whether both halves of a head's channels are turned together, else neighbors.
        """
        self = cls.__new__(cls)
        self.__dict__.update(attention.__dict__)
        self.rotate_halves = halves
        return self

    def add_frequencies(self) -> None:
        """Give the block frequencies of its own, as CAPI starts them; checkpoints have others.

        Of each axis ``[head_dim]``: 2 pi times 7 to 7e-4 in equal ratios, in both halves of the
        channels that the axis turns; the row turns the first half. Source: facebookresearch/capi,
        model.py, class Rope.
        """
        quarter = self.head_dim // 4
        axis = 2 * torch.pi * 7 * 1e4 ** torch.linspace(0, -1, quarter)
        axis = torch.cat([axis, axis])
        freqs = torch.block_diag(axis, axis)
        self.register_buffer('freqs', freqs.to(self.qkv.weight.device))

    def forward(
        self,
        x: Tensor,
        attn_mask: Tensor | tuple[Tensor, Tensor] | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """Attend with rotated queries and keys.

        Args:
            x: ``[B, N, C]``.
            attn_mask: the table, ``[N, 2 * head_dim]`` or ``[B, N, 2 * head_dim]``; with `freqs`,
                coordinates ``[N, 2]`` or ``[B, N, 2]``; or one of these and a mask.
            is_causal: False; timm's blocks pass it on.
        """
        table, mask = attn_mask if isinstance(attn_mask, tuple) else (attn_mask, None)
        return rotated_attention(self, x, table, mask)


def rotated_attention(
    attention: Any, x: Tensor, table: Tensor | None, mask: Tensor | None = None
) -> Tensor:
    """What timm's `Attention` makes of ``[B, N, C]``, with rotated queries and keys.

    Args:
        attention: timm's, or one derived from it.
        x: ``[B, N, C]``.
        table: see `RopeAttention.forward`; None rotates nothing.
        mask: which token may look at which, boolean and broadcast to ``[B, heads, N, N]``.
    """
    q, k, v = attention.qkv(x).unflatten(-1, (3, attention.num_heads, -1)).unbind(2)
    q, k, v = (part.transpose(1, 2) for part in (attention.q_norm(q), attention.k_norm(k), v))
    if table is not None:
        if getattr(attention, 'freqs', None) is not None:
            table = turned_by(table, attention.freqs)
        halves = attention.rotate_halves
        q, k = (rotated(part, table, halves).to(v.dtype) for part in (q, k))
    dropout = attention.attn_drop.p if attention.training else 0.0
    if attention.fused_attn:
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
    else:
        scores = (q * attention.scale) @ k.transpose(-2, -1)
        if mask is not None:
            scores = scores.masked_fill(~mask, float('-inf'))
        out = attention.attn_drop(scores.softmax(-1)) @ v
    out = attention.norm(out.transpose(1, 2).flatten(2))
    return attention.proj_drop(attention.proj(out))


def turned_by(coordinates: Tensor, freqs: Tensor) -> Tensor:
    """The table ``[..., 2 * head_dim]`` of coordinates ``[..., 2]`` and frequencies, in fp32."""
    row, column = freqs.float()  # no matrix product, which autocast would round
    angles = coordinates[..., :1] * row + coordinates[..., 1:] * column
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def rotated(x: Tensor, table: Tensor, halves: bool) -> Tensor:
    """Rotate queries or keys ``[B, heads, N, d]`` by a table; see `RopeAttention`."""
    return apply_rot_embed_cat(x, table if table.ndim == 2 else table[:, None], half=halves)


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
