"""Where the windows of a sliding-window test lie, and what becomes of a pixel they share.

mmseg enlarges each window's logits to pixels, adds them up at full size, divides by the number of
windows over each pixel and resizes the whole. Each step is linear and treats rows and columns
alike, so that all of them together are one product of small matrices: with the logits of all
windows laid beside each other in ``grid`` ``[C, I, J]``, the result is ``rows @ grid @ columns.T``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_BLOCK_BYTES = 2**25
"""Size of the logits that `merged_rows` has at full resolution at a time [choice]: 32 MB."""
_COLUMNS = 128  # multiplied at a time; they depend on a few columns of the grid


@dataclass(frozen=True)
class Axis:
    """Windows along one side of an image.

    Attributes:
        size: of the image in pixels.
        window: length of each window in pixels.
        starts: first pixel of each window; those at the far end are moved in, as mmseg does.
    """

    size: int
    window: int
    starts: tuple[int, ...]

    @classmethod
    def of(cls, size: int, crop: int, stride: int) -> Axis:
        """Windows of `crop` pixels every `stride`, or one of `size` pixels if that is shorter.

        `stride` must not be greater than `crop`, or pixels stay without a window.
        """
        window = min(crop, size)
        number = max(size - crop + stride - 1, 0) // stride + 1
        return cls(size, window, tuple(min(i * stride, size - window) for i in range(number)))


@dataclass(frozen=True)
class Output:
    """What mmseg does along one side after merging, in this order.

    Attributes:
        before: pixels of padding to cut off at the near end.
        after: the same at the far end.
        flip: whether to turn the result round.
        size: to resize to, in pixels; None to leave the size as it is.
    """

    before: int = 0
    after: int = 0
    flip: bool = False
    size: int | None = None


def merging_matrix(axis: Axis, cells: int, align_corners: bool, output: Output) -> Tensor:
    """How each output pixel of one side depends on the logits of all windows along it.

    Args:
        axis: the windows.
        cells: resolution of a window's logits.
        align_corners: of mmseg's bilinear resizing.
        output: what comes after merging.

    Returns:
        ``[output size, windows * cells]``, float32, on the CPU; each row is of sum 1.
    """
    enlarged = resizing_matrix(cells, axis.window, align_corners)
    matrix = torch.zeros(axis.size, len(axis.starts), cells)
    count = torch.zeros(axis.size, 1)
    for number, start in enumerate(axis.starts):
        matrix[start : start + axis.window, number] = enlarged
        count[start : start + axis.window] += 1
    matrix = matrix.flatten(1) / count
    matrix = matrix[output.before : axis.size - output.after]
    if output.flip:
        matrix = matrix.flip(0)
    return matrix if output.size is None else _resize_rows(matrix, output.size, align_corners)


def resizing_matrix(before: int, after: int, align_corners: bool) -> Tensor:
    """How mmseg's bilinear resizing of one side makes each pixel: ``[after, before]``."""
    return _resize_rows(torch.eye(before), after, align_corners)


def _resize_rows(matrix: Tensor, size: int, align_corners: bool) -> Tensor:
    """Resize every column of ``[L, K]`` to ``[size, K]`` by the kernel that mmseg resizes with."""
    if len(matrix) == size:
        return matrix
    columns = matrix.T[None, :, :, None]
    columns = F.interpolate(columns, (size, 1), mode='bilinear', align_corners=align_corners)
    return columns[0, :, :, 0].T


def merged_rows(grid: Tensor, rows: Tensor, columns: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Multiply out ``rows @ grid @ columns.T``, some rows of the result at a time.

    Args:
        grid: logits of all windows, ``[C, I, J]``, float32.
        rows: ``[H, I]``, on the CPU.
        columns: ``[W, J]``, on the CPU.

    Yields:
        Which rows, and their logits ``[C, part of H, W]``.
    """
    with torch.autocast(grid.device.type, enabled=False):
        wide = grid.new_empty(*grid.shape[:2], len(columns))
        for start in range(0, len(columns), _COLUMNS):
            weights, used = band(columns[start : start + _COLUMNS], grid.device)
            wide[..., start : start + _COLUMNS] = grid[..., used] @ weights.T
        step = max(_BLOCK_BYTES // (4 * len(grid) * len(columns)), 1)
        for start in range(0, len(rows), step):
            weights, used = band(rows[start : start + step], grid.device)
            yield slice(start, start + step), weights @ wide[:, used]


def band(weights: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """The columns of ``[M, K]``, on the CPU, that are not all zero, and their numbers."""
    used = weights.any(0).nonzero()[:, 0]
    return weights[:, used].to(device), used.to(device)
