"""LOST: the box of one object, from how patches are alike; nothing trained.

Source: "Localizing Objects with Self-Supervised Transformers and no Labels" (Siméoni et al., BMVC
2021, arXiv 2109.14279), valeoai/LOST.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torchvision.ops import box_iou

CANDIDATES = 100
"""How many patches of the lowest degree may join the seed."""

CENTERED = 0.7
"""Sides of the centered box, a baseline, as shares of the image's."""


@dataclass(frozen=True)
class Discovery:
    """What LOST finds in an image.

    Attributes:
        seed: Row and column of the seed patch.
        box: ``(x1, y1, x2, y2)`` in pixels, borders included on the left and excluded on the
            right.
        scores: ``[h, w]``, each patch's similarity to all that joined the seed, summed; the object
            is where it is positive.
        degrees: ``[h, w]`` int64, with how many other patches each one correlates positively.
        joined: Numbers of the patches whose similarities were summed, those of the lowest degree
            first, the seed among them.
    """

    seed: tuple[int, int]
    box: tuple[int, int, int, int]
    scores: Tensor
    degrees: Tensor
    joined: Tensor


def discover(
    features: Tensor, size: tuple[int, int], patch: int, candidates: int = CANDIDATES
) -> Discovery:
    """Find one object by features that are *not* of unit length.

    Args:
        features: ``[D, h, w]`` of the patches of an image.
        size: Height and width in pixels of the image, which the patches may exceed.
        patch: Side of a patch in pixels.
        candidates: How many patches of the lowest degree may join the seed.
    """
    _, rows, columns = features.shape
    tokens = features.flatten(1).T
    similar = tokens @ tokens.T
    positive = similar > 0
    degrees = positive.sum(1) - positive.diagonal().long()
    order = torch.argsort(degrees, stable=True)
    seed = int(order[0])
    few = order[:candidates]
    # the seed is one of them even where its own feature is zero
    joined = few[(similar[seed, few] > 0) | (few == seed)]
    scores = similar[joined].sum(0).view(rows, columns)
    place = divmod(seed, columns)
    box = box_around(scores.cpu().numpy() > 0, place, size, patch)
    return Discovery(place, box, scores, degrees.view(rows, columns), joined)


def box_around(
    mask: NDArray[np.bool_], seed: tuple[int, int], size: tuple[int, int], patch: int
) -> tuple[int, int, int, int]:
    """The box in pixels of the part of a mask that holds a cell.

    Parts hang together by their sides, not by corners.

    Args:
        mask: ``[h, w]`` cells.
        seed: Row and column of the cell; alone where the mask does not hold it.
        size: Height and width in pixels at which the box is cut off.
        patch: Side of a cell in pixels.
    """
    parts, _ = ndimage.label(mask)
    part = parts == parts[seed] if mask[seed] else np.zeros_like(mask)
    part[seed] = True
    rows, columns = np.flatnonzero(part.any(1)), np.flatnonzero(part.any(0))
    return (
        int(columns[0]) * patch,
        int(rows[0]) * patch,
        min((int(columns[-1]) + 1) * patch, size[1]),
        min((int(rows[-1]) + 1) * patch, size[0]),
    )


def whole_box(size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The whole image as a box, a baseline, from its height and width."""
    return 0.0, 0.0, float(size[1]), float(size[0])


def centered_box(size: tuple[int, int]) -> tuple[float, float, float, float]:
    """A box of 70 % of each side in the middle of the image, a baseline."""
    margin = (1 - CENTERED) / 2
    height, width = size
    return margin * width, margin * height, (1 - margin) * width, (1 - margin) * height


def overlaps(box: tuple[float, ...], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU of a box ``(x1, y1, x2, y2)`` with others ``[N, 4]``; sides are ``x2 - x1``."""
    found: NDArray[np.float64] = box_iou(
        torch.tensor([box], dtype=torch.float64), torch.from_numpy(others)
    )[0].numpy()
    return found


def located(box: tuple[float, ...], others: NDArray[np.float64]) -> bool:
    """Whether a box counts in CorLoc: IoU of .5 or more with any true box."""
    return bool(len(others)) and bool((overlaps(box, others) >= 0.5).any())
