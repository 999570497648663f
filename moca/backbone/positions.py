"""Position embeddings: sine-cosine tables, and how learned ones are resampled to another grid."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from moca.errors import UserError

INTERPOLATIONS = (
    *('bicubic', 'bilinear', 'bicubic-antialias', 'bilinear-antialias', 'bicubic-offset'),
    *('bilinear-crop', 'bilinear-crop-aligned'),
)
"""How position embeddings are resampled, each as the code of some family does it:

- ``bicubic``: torch's, a = -.75, to the size of the grid: MAE, MOCA, BEiT, CAE, detectron2, and the
  mmsegmentation code of BEiT and iBOT, which resamples once, when it loads;
- ``bilinear``: likewise; Segmenter;
- ``bicubic-antialias``: with antialiasing, a = -.5: timm, DINOv2 with registers;
- ``bicubic-offset``: by the factors ``(rows + .1) / old rows`` and ``(columns + .1) / old columns``
  instead of to a size, which moves every sample a little: DINO, iBOT, DINOv2 without registers;
- ``bilinear-antialias``: SigLIP 2 for images of any shape (NaFlex), as transformers has it;
- ``bilinear-crop``: to a square of the longer side, of which the top left part is taken, with
  ``-aligned`` by corners instead of areas: C-RADIO.
"""


def check_interpolation(interpolation: str | None) -> None:
    """Raise a `UserError` unless the interpolation is one of `INTERPOLATIONS`, or None."""
    if interpolation is not None and interpolation not in INTERPOLATIONS:
        raise UserError(f'interpolation={interpolation!r}: choose {", ".join(INTERPOLATIONS)}.')


def resample_positions(
    positions: Tensor, old: tuple[int, int], new: tuple[int, int], interpolation: str
) -> Tensor:
    """Resample a position embedding to another grid, in fp32.

    Args:
        positions: ``[1, rows * columns, C]``, without those of prefix tokens.
        old: Its rows and columns.
        new: The rows and columns wanted.
        interpolation: One of `INTERPOLATIONS`.

    Returns:
        ``[1, new rows * new columns, C]``, of the given type.
    """
    if old == new:
        return positions
    grid = positions.float().unflatten(1, old).permute(0, 3, 1, 2)
    mode, _, variant = interpolation.partition('-')
    if variant == 'offset':
        factors = tuple((n + 0.1) / o for n, o in zip(new, old, strict=True))
        grid = F.interpolate(grid, scale_factor=factors, mode=mode)
    elif variant.startswith('crop'):
        aligned = variant == 'crop-aligned'
        grid = F.interpolate(grid, (max(new), max(new)), mode=mode, align_corners=aligned)
        grid = grid[:, :, : new[0], : new[1]]
    else:
        grid = F.interpolate(grid, new, mode=mode, antialias=variant == 'antialias')
    return grid.flatten(2).transpose(1, 2).to(positions.dtype)


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
