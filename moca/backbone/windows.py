"""Window attention with global blocks, as in ViTDet: cheap attention on large images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import Attention
from torch import Tensor, nn

from moca.backbone.rope import RopeAttention, rotated_attention
from moca.errors import UserError

REL_POS = ('attn.rel_pos_h', 'attn.rel_pos_w')
"""Ends of the names of relative positions, which no pre-trained checkpoint has."""


class WindowAttention(Attention):
    """timm's attention on a grid of tokens, within windows or over the whole grid.

    The weights, and their names, are timm's. The grid is the shape of the tokens, ``[B, H, W, C]``,
    which all other parts of timm's blocks take as well: no state is left behind in the module, so
    that recomputing a block in the backward pass sees the grid that it saw in the forward pass.

    Grids that are no multiple of the window are padded with zeros at the right and the bottom, and
    these zeros, which come after the block's first norm, take part in attention as detectron2's do
    (they have the keys and values of the projection's bias).

    "Exploring Plain Vision Transformer Backbones for Object Detection", section 3; detectron2,
    modeling/backbone/{vit,utils}.py. Relative positions: MViTv2, section 4.1.
    """

    window_size: int | None  # patches; None for the whole grid
    rel_pos_h: nn.Parameter | None  # [2 * rows - 1, C / heads]
    rel_pos_w: nn.Parameter | None

    @classmethod
    def of(cls, attention: Attention, window_size: int | None) -> WindowAttention:
        """Turn timm's attention into this one, with the very same weights."""
        self = cls.__new__(cls)
        self.__dict__.update(attention.__dict__)
        self.window_size = window_size
        self.register_parameter('rel_pos_h', None)
        self.register_parameter('rel_pos_w', None)
        return self

    def add_rel_pos(self, grid: tuple[int, int]) -> None:
        """Give attention relative positions that start from zero, for a grid (or window)."""
        like: Any = dict(device=self.qkv.weight.device, dtype=self.qkv.weight.dtype)
        self.rel_pos_h, self.rel_pos_w = (
            nn.Parameter(torch.zeros(2 * side - 1, self.head_dim, **like)) for side in grid
        )

    def forward(
        self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        """Attend within each window.

        Args:
            x: ``[B, H, W, C]``.
            attn_mask: A table of rotary positions, ``[H, W, 2 * head_dim]``, or None; timm's
                blocks pass it on.
            is_causal: False; the same.

        Returns:
            ``[B, H, W, C]``.
        """
        if is_causal or (attn_mask is not None and attn_mask.shape[:-1] != x.shape[1:-1]):
            raise ValueError('WindowAttention makes its own masks and takes none.')
        grid = (x.shape[1], x.shape[2])
        table = None if attn_mask is None else attn_mask[None]
        if self.window_size is None:
            return self._attend(x, table)
        if table is not None:  # a window's tokens keep the angles of their places in the image
            table = split_windows(table, self.window_size)
        return merge_windows(self._attend(split_windows(x, self.window_size), table), grid)

    def _attend(self, x: Tensor, table: Tensor | None = None) -> Tensor:
        """Attention over each whole grid of ``[B, h, w, C]``, with angles ``[n, h, w, 2 * d]``."""
        of_rows, of_columns = self.rel_pos_h, self.rel_pos_w
        if table is not None:
            table = table.flatten(1, 2).repeat(x.shape[0] // table.shape[0], 1, 1)
            return rotated_attention(self, x.flatten(1, 2), table).view(*x.shape[:3], -1)
        if of_rows is None or of_columns is None:
            return super().forward(x.flatten(1, 2)).view(*x.shape[:3], -1)
        grid = (x.shape[1], x.shape[2])
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, self.head_dim))
        q, k, v = qkv.movedim(-2, 1).unbind(4)  # [B, n, h, w, c]
        q, k = self.q_norm(q), self.k_norm(k)
        q, k = with_rel_pos(q, k, self.scale, of_rows, of_columns)
        x = self._scaled_products(q, k, v.flatten(2, 3)).transpose(1, 2)
        return self.proj_drop(self.proj(self.norm(x.unflatten(1, grid).flatten(3))))

    def _scaled_products(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """``softmax(q k^T) v`` of ``[B, n, N, d]``, ``[B, n, N, d]`` and ``[B, n, N, c]``."""
        if not self.fused_attn:
            return self.attn_drop((q @ k.transpose(-2, -1)).softmax(-1)) @ v
        # kernels that keep no N x N map want equal widths
        padded = F.pad(v, (0, q.shape[-1] - v.shape[-1]))
        dropout = self.attn_drop.p if self.training else 0.0
        out = F.scaled_dot_product_attention(q, k, padded, dropout_p=dropout, scale=1.0)
        return out[..., : v.shape[-1]]


def set_windows(
    blocks: Iterable[Any],
    window_size: int,
    global_blocks: Sequence[int],
    grid: tuple[int, int],
    rel_pos: bool,
) -> None:
    """Turn on windows in all blocks but some.

    Args:
        blocks: timm's.
        window_size: side in patches.
        global_blocks: which blocks attend over the whole grid, counted from 0.
        grid: rows and columns of the whole grid, for its relative positions.
        rel_pos: give every block relative positions.

    Raises:
        UserError: the size is no number of patches, or a block's attention is of another kind.
    """
    if not isinstance(window_size, int) or window_size < 1:
        raise UserError(f'window_size={window_size!r}: give a number of patches, 1 up, or None.')
    for index, block in enumerate(blocks):
        if type(block.attn) not in (Attention, RopeAttention):
            kind = type(block.attn).__name__
            raise UserError(f'window_size: a ViT with {kind} has no windows; leave it out.')
        if rel_pos and type(block.attn) is RopeAttention:
            raise UserError('rel_pos: a ViT with rotary positions has them already; leave it out.')
        size = None if index in global_blocks else window_size
        block.attn = WindowAttention.of(block.attn, size)
        if rel_pos:
            block.attn.add_rel_pos(grid if size is None else (size, size))


def with_rel_pos(
    q: Tensor, k: Tensor, scale: float, of_rows: Tensor, of_columns: Tensor
) -> tuple[Tensor, Tensor]:
    """Put decomposed relative positions into queries and keys, so that attention needs no mask.

    What they add to a query's product with a key depends on the key's row and column alone. So
    the query gets that addend for each row and each column as further channels, and the key gets
    the one-hot codes of its own row and column: their product is the sum, and no map of all pairs
    (0.8 GB for each global block and image of 1024 x 1024 in fp32) is made, kept or needed.

    Args:
        q: ``[B, n, h, w, c]``, before it is scaled.
        k: Likewise.
        scale: What products of queries and keys are multiplied with; relative positions are not.
        of_rows: Table of relative positions along the rows, see :func:`distances`.
        of_columns: Along the columns.

    Returns:
        Queries and keys ``[B, n, h * w, d]`` whose products are the logits; d is c + h + w and
        zeros up to a multiple of 8, as attention kernels want it.
    """
    rows, columns, channels = q.shape[2:]
    by_row = torch.einsum('bnhwc,hkc->bnhwk', q, distances(of_rows, rows).to(q.dtype))
    by_column = torch.einsum('bnhwc,wkc->bnhwk', q, distances(of_columns, columns).to(q.dtype))
    fill = q.new_zeros(()).expand(*q.shape[:-1], -(channels + rows + columns) % 8)
    queries = torch.cat((q * scale, by_row, by_column, fill), dim=-1)
    row_codes = torch.eye(rows, dtype=k.dtype, device=k.device)[:, None]
    column_codes = torch.eye(columns, dtype=k.dtype, device=k.device)
    codes = (c.expand(*k.shape[:4], -1) for c in (row_codes, column_codes))
    return queries.flatten(2, 3), torch.cat((k, *codes, fill), dim=-1).flatten(2, 3)


def split_windows(x: Tensor, size: int) -> Tensor:
    """Cut ``[B, H, W, C]`` into windows ``[B * n, size, size, C]``, row by row; zeros fill up."""
    _, rows, columns, _ = x.shape
    x = F.pad(x, (0, 0, 0, -columns % size, 0, -rows % size))
    x = x.unflatten(2, (-1, size)).unflatten(1, (-1, size))
    return x.transpose(2, 3).flatten(0, 2)


def merge_windows(windows: Tensor, grid: tuple[int, int]) -> Tensor:
    """Undo `split_windows`: ``[B * n, size, size, C]`` to ``[B, *grid, C]``."""
    size = windows.shape[1]
    rows, columns = (-(-side // size) for side in grid)
    x = windows.unflatten(0, (-1, rows, columns)).transpose(2, 3)
    x = x.flatten(3, 4).flatten(1, 2)
    return x[:, : grid[0], : grid[1]]


def distances(table: Tensor, side: int) -> Tensor:
    """Entries of a table of relative positions for each query and key along one axis.

    Args:
        table: ``[2 * n - 1, C]``, from the key that is furthest behind the query to the one that
            is furthest ahead, backwards; resampled linearly where n is not `side`.
        side: Tokens along the axis.

    Returns:
        ``[side, side, C]``: ``[q, k]`` is the entry of the distance q - k.
    """
    length = 2 * side - 1
    if len(table) != length:
        table = F.interpolate(table.T[None], size=length, mode='linear')[0].T
    index = torch.arange(side, device=table.device)
    return table[index[:, None] - index[None, :] + side - 1]
