"""Whole images of any shape through a square network: windows along the long side.

Source: tue-mps/eomt, training/lightning_module.py (window_imgs_semantic and its inverse).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from moca.errors import UserError


def window_starts(length: int, size: int) -> list[int]:
    """Where windows of `size` pixels begin, evenly spaced over `length` >= `size` pixels."""
    count = math.ceil(length / size)
    overlap = (count * size - length) / (count - 1) if count > 1 else 0.0
    return [int(number * (size - overlap)) for number in range(count)]


def windows_of(shape: Sequence[int], size: int) -> list[tuple[slice, slice]]:
    """The windows of an image whose short side has `size` pixels.

    Raises:
        UserError: It is another size: images come resized from the test pipeline.
    """
    height, width = shape
    if min(height, width) != size:
        raise UserError(
            f'an image of {height} x {width} pixels for windows of {size}: the short side has to '
            f'be {size}. Put dict(type="Resize", scale=(100000, {size}), keep_ratio=True, '
            'backend="pillow") into the test pipeline.'
        )
    along = [slice(start, start + size) for start in window_starts(max(shape), size)]
    whole = slice(0, size)
    return [(part, whole) if height > width else (whole, part) for part in along]


def class_scores(masks: Tensor, classes: Tensor, size: tuple[int, int]) -> Tensor:
    """How much each pixel belongs to each class: over queries, class times mask.

    Args:
        masks: Logits ``[B, Q, h, w]``.
        classes: Logits ``[B, Q, C + 1]``, the last one of "no object".
        size: Height and width in pixels.

    Returns:
        ``[B, C, *size]``.
    """
    masks = F.interpolate(masks.float(), size, mode='bilinear').sigmoid()
    return torch.einsum('bqc,bqhw->bchw', classes.float().softmax(-1)[..., :-1], masks)


def merge(parts: Sequence[Tensor], windows: Sequence[tuple[slice, slice]]) -> Tensor:
    """The mean of windows ``[C, S, S]`` where they overlap: ``[C, H, W]``."""
    height, width = (max(axis.stop for axis in axes) for axes in zip(*windows, strict=True))
    total = parts[0].new_zeros(len(parts[0]), height, width)
    count = parts[0].new_zeros(height, width)
    for part, (rows, columns) in zip(parts, windows, strict=True):
        total[:, rows, columns] += part
        count[rows, columns] += 1
    return total / count
