"""Fixed two-dimensional sine-cosine positions, as in MAE and MOCA."""

from __future__ import annotations

import torch
from torch import Tensor

from moca.errors import UserError


def sincos_positions(grid: tuple[int, int], dim: int, num_prefix: int = 1) -> Tensor:
    """Sine-cosine position embedding of a grid of patches.

    The first half of the channels encodes the column, the second half the row; within each half
    come all sines, then all cosines, at frequencies ``10000 ** -(i / (dim / 4))``. Prefix tokens
    (class, registers) get zeros. Source: MAE and MOCA, released code.

    Args:
        grid: Rows and columns.
        dim: Channels.
        num_prefix: Rows of zeros put in front.

    Returns:
        ``[1, num_prefix + rows * columns, dim]``, fp32.

    Raises:
        UserError: ``dim`` is no multiple of 4.
    """
    if dim % 4:
        raise UserError(f'sin-cos positions need a width that is a multiple of 4, not {dim}.')
    rows, columns = grid
    # float64, because the released tables were computed so and the angles reach hundreds
    frequency = 10000.0 ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    row, column = torch.meshgrid(
        torch.arange(rows, dtype=torch.float64),
        torch.arange(columns, dtype=torch.float64),
        indexing='ij',
    )
    angles = [axis.reshape(-1, 1) * frequency for axis in (column, row)]
    table = torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1)
    return torch.cat([table.new_zeros(num_prefix, dim), table])[None].float()
