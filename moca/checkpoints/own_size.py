"""The size in pixels that a checkpoint's positions were made for."""

from __future__ import annotations

import math

import torch

from moca.backbone import PlainViT
from moca.backbone.arch import ArchSpec
from moca.checkpoints.info import CheckpointInfo


def own_size(
    info: CheckpointInfo, arch: ArchSpec, grid: tuple[int, int] | None
) -> tuple[int, int] | None:
    """Height and width in pixels for which a file's positions were made; None if unknown.

    A backbone that is built for them resamples positions once, to the size of its images.

    Args:
        info: Of the file.
        arch: Of the backbone.
        grid: Rows and columns of the positions, where they are not square and the file does not
            say it.
    """
    with torch.device('meta'):
        model = PlainViT(arch)
    grid = grid or info.grid
    if grid is None:
        prefix = 0 if model.no_embed_class else model.num_prefix_tokens
        count = info.num_positions - prefix
        side = math.isqrt(max(count, 0))
        if side == 0 or side * side != count:
            return None
        grid = (side, side)
    return grid[0] * model.patch_size, grid[1] * model.patch_size
