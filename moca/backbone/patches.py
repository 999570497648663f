"""The patch embedding as a linear layer over the pixels of each patch.

A convolution whose stride is its kernel is a matrix product over unfolded pixels. Unfolded once,
they serve every network that reads the same images, and a student that sees some patches embeds
those alone. The weights stay those of the convolution, under their names and in their shapes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from timm.layers import PatchEmbed
from torch import Tensor


class Pixels(NamedTuple):
    """The pixels of images, patch by patch.

    Attributes:
        values: ``[B, L, 3 * patch * patch]``, patches row by row, and the numbers of a patch in the
            order of a convolution's kernel: channel, row, column.
        grid: Rows and columns of the L patches.
    """

    values: Tensor
    grid: tuple[int, int]


def unfold(patch: int, *images: Tensor) -> Pixels:
    """Cut images into patches; those that do not fill the last ones are padded with zeros.

    Under autocast the values have its type, as a convolution would round them.

    Args:
        patch: Side in pixels.
        images: Batches ``[B, 3, H, W]`` of one size, which become one in their order.
    """
    height, width = images[0].shape[-2:]
    rows, columns = grid = math.ceil(height / patch), math.ceil(width / patch)
    right, bottom = columns * patch - width, rows * patch - height
    if right or bottom:
        images = tuple(F.pad(batch, (0, right, 0, bottom)) for batch in images)
    first = images[0]
    kind, dtype = first.device.type, first.dtype
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
    channels, count = first.shape[1], sum(len(batch) for batch in images)
    shape = (count, rows, columns, channels, patch, patch)
    values = torch.empty(shape, dtype=dtype, device=first.device)
    begin = 0
    for batch in images:
        parts = batch.unflatten(3, (columns, patch)).unflatten(2, (rows, patch))
        values[begin : begin + len(batch)].copy_(parts.permute(0, 2, 4, 1, 3, 5))
        begin += len(batch)
    return Pixels(values.flatten(1, 2).flatten(2), grid)


def embed_pixels(embed: PatchEmbed, values: Tensor) -> Tensor:
    """What the convolution of a patch embedding makes of patches, ``[..., C]``."""
    return embed.norm(F.linear(values, embed.proj.weight.flatten(1), embed.proj.bias))
