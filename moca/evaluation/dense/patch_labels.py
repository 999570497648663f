"""Labels of patches, made of a label map's pixels.

Sources: open-hummingbird-eval 2.0.0 (shares of classes) and facebookresearch/capi (pixels in
order, most frequent label).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from moca.segmentation.label_maps import IGNORE

LABELS = 256
"""Values that a label map of 8 bits can hold."""

_ROWS = 65536  # patches that are counted at a time: 128 MB

Void = Literal['class0', 'drop']
"""What ignored pixels are in a bank: ``class0`` (the source counts them as class 0) or nothing."""

VOIDS: tuple[Void, ...] = ('class0', 'drop')


def pixels_of_patches(labels: Tensor, patch: int) -> Tensor:
    """The pixels of each patch, in order.

    Args:
        labels: ``[B, h * patch, w * patch]``.
        patch: Side of a patch in pixels.

    Returns:
        ``[B, h * w, patch * patch]``; patches and their pixels row by row.
    """
    rows = labels.unflatten(2, (-1, patch)).unflatten(1, (-1, patch))
    return rows.transpose(2, 3).flatten(3).flatten(1, 2)


def class_shares(labels: Tensor, patch: int, num_classes: int, void: Void = 'class0') -> Tensor:
    """Which share of a patch's pixels each class has.

    Args:
        labels: ``[B, h * patch, w * patch]`` with classes from 0, and 255 where ignored.
        patch: Side of a patch in pixels.
        num_classes: C.
        void: ``class0``: ignored pixels are of class 0, as in the source; ``drop``: they do not
            count, and a patch without others has shares of 0 only.

    Returns:
        ``[B, h * w, C]`` fp32; the shares of a patch add up to 1.
    """
    pixels = pixels_of_patches(labels.long(), patch)
    ignored = pixels == IGNORE
    shape = (*pixels.shape[:2], num_classes)
    number = torch.arange(shape[0] * shape[1], device=labels.device).view(*shape[:2], 1)
    places = (number * num_classes + pixels.masked_fill(ignored, 0)).flatten()
    if void == 'drop':
        places = places[~ignored.flatten()]
    counts = torch.bincount(places, minlength=shape[0] * shape[1] * num_classes).view(shape)
    return counts.float() / counts.sum(2, keepdim=True).clamp_min(1)


def most_frequent(pixels: Tensor) -> Tensor:
    """The most frequent label of each row; of equally frequent ones the smallest.

    Args:
        pixels: ``[N, n]`` labels of 0 to 255, uint8.

    Returns:
        ``[N]`` uint8.
    """
    found = []
    for part in pixels.split(_ROWS):
        first = LABELS * torch.arange(len(part), device=part.device)[:, None]
        counts = torch.bincount((first + part).flatten(), minlength=LABELS * len(part))
        found.append(counts.view(len(part), LABELS).argmax(1).to(pixels.dtype))
    return torch.cat(found) if found else pixels.new_empty(0)


def is_any(labels: Tensor, values: Sequence[int]) -> Tensor:
    """Whether each label is one of some values; a bool tensor of the same shape."""
    return torch.isin(labels, torch.tensor(list(values), dtype=labels.dtype, device=labels.device))
