"""What a plain ViT computes anew for each image size, computed once for the size of a graph."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from moca.backbone import PlainViT
from moca.backbone.positions import resample_positions
from moca.backbone.rope import RotaryPositions


class FixedRotary(nn.Module):
    """Rotary positions of one grid, as a constant.

    Args:
        rope: the backbone's own, for the tokens in front of the patches.
        grid: rows and columns of patches.
    """

    table: Tensor

    def __init__(self, rope: RotaryPositions, grid: tuple[int, int]) -> None:
        super().__init__()
        self.rope = rope
        self.kind = rope.kind
        self.register_buffer('table', rope(grid).clone())

    def forward(self, grid: tuple[int, int], device: Any = None) -> Tensor:
        """The table ``[rows * columns, 2 * head_dim]``, on the device of the model."""
        return self.table

    def with_prefix(self, table: Tensor, count: int) -> Tensor:
        """Put rows of `count` prefix tokens in front, as `RotaryPositions.with_prefix`."""
        return self.rope.with_prefix(table, count)


@torch.no_grad()
def fix_size(backbone: PlainViT, size: tuple[int, int]) -> None:
    """Have a backbone take images of one size, so that no graph resamples positions.

    ONNX has no antialiased resampling, and a table that is kept from call to call is no part of a
    graph.

    Args:
        backbone: in eval mode; changed.
        size: height and width of its images in pixels.
    """
    height, width = (math.ceil(side / backbone.patch_size) for side in size)
    grid = (height, width)
    if backbone.pos_embed is not None:
        skip = 0 if backbone.no_embed_class else backbone.num_prefix_tokens
        prefix, patches = backbone.pos_embed[:, :skip], backbone.pos_embed[:, skip:]
        how = backbone.interpolation or 'bicubic'
        patches = resample_positions(patches, backbone.grid, grid, how)
        backbone.pos_embed = nn.Parameter(torch.cat([prefix, patches], 1), requires_grad=False)
        backbone.grid = grid
    if backbone.rope is not None:
        rope: Any = FixedRotary(backbone.rope, grid)
        backbone.rope = rope
