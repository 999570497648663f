"""Semantic correspondence: keypoints of one image, found in another by features.

Source: mbanani/probe3d, evaluate_spair_correspondence.py, of "Probing the 3D Awareness of Visual
Foundation Models" (El Banani et al., CVPR 2024); appendix C of EUPE (arXiv 2603.22387).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Align = Literal['probe3d', 'centered', 'pixels']
ALIGNS: tuple[Align, ...] = ('probe3d', 'centered', 'pixels')
"""How positions in the image and cells of the map belong together.

``probe3d``: the source's feature is interpolated with the corners of the image on the *centers* of
the corner cells, and the target's place is the upper left corner of the best cell.
``centered``: both sides take a cell for the center of its patch.
``pixels`` (EUPE): maps are enlarged to pixels (bilinear, as ``centered``); the source's feature is
that of the pixel which holds the keypoint, and the target's place is the best pixel.
"""

SHARE = 0.1
"""Of the larger side of the target's box: how far a match may be off."""

SEED = 20
"""Of the order in which pairs are drawn, probe3d's."""

Pair = TypeVar('Pair')


def drawn(pairs: Sequence[Pair], most: int) -> list[Pair]:
    """Draw some of the pairs of a class, in probe3d's order.

    Args:
        pairs: Sorted, so that the file system decides nothing (the source does not sort).
        most: How many at most.
    """
    order = list(pairs)
    random.Random(SEED).shuffle(order)
    return order[:most]


def on_square(points: NDArray[np.float64], side: int, size: int) -> NDArray[np.int64]:
    """Keypoints on the padded, resized image, cut off to whole pixels.

    Args:
        points: ``[K, 3]``: x and y in pixels, and whether it is visible (0 or 1).
        side: The larger side of the image in pixels.
        size: Side of the square in pixels.

    Returns:
        ``[K, 3]``; zeros where a keypoint is not visible.
    """
    scaled = np.trunc(points[:, :2] * size / side) * points[:, 2:]
    return np.concatenate([scaled, points[:, 2:]], axis=1).astype(np.int64)


def sample(features: Tensor, points: Tensor, margin: float, align: Align) -> Tensor:
    """Features at places of the image.

    Args:
        features: ``[D, h, w]``.
        points: ``[K, 2]``, x and y as shares of the square image's side.
        margin: By which the map exceeds the image on each side, as a share of the image's side.
            probe3d takes no account of it.
        align: See `ALIGNS`.

    Returns:
        ``[K, D]``.
    """
    if align == 'probe3d':
        places, corners = points * 2 - 1, True
    else:
        places, corners = (points + margin) / (1 + 2 * margin) * 2 - 1, False
    # beyond the outermost centers there is nothing to interpolate with
    found = F.grid_sample(
        features[None],
        places[None, None].to(features),
        mode='bilinear',
        padding_mode='zeros' if corners else 'border',
        align_corners=corners,
    )
    return found[0, :, 0].T


def match(
    source: Tensor, target: Tensor, points: Tensor, size: int, margin: float, align: Align
) -> tuple[Tensor, Tensor]:
    """Where keypoints of the source are in the target.

    Args:
        source: Features ``[D, h, w]`` of length 1 in each cell.
        target: The same.
        points: ``[K, 2]``, x and y of the source's keypoints in pixels.
        size: Side of the square images in pixels.
        margin: Pixels by which the maps exceed the images on each side.
        align: See `ALIGNS`.

    Returns:
        Places ``[K, 2]``, x and y as shares of the image's side, and the best cells ``[K]`` of the
        target (of its pixels with ``pixels``), row by row.
    """
    _, height, width = target.shape
    beyond = margin / size
    shares = (points.float() + (0.5 if align == 'pixels' else 0.0)) / size
    asked = sample(source, shares, beyond, align)
    similar = torch.einsum('kd,dhw->khw', asked, target)
    if align == 'pixels':
        place, best = _best_pixel(similar, size, margin)
        return (place + 0.5) / size, best
    best = similar.flatten(1).argmax(1)
    cells = torch.stack([best % width, best // width], dim=1).float()
    extent = torch.tensor([width, height], device=cells.device)
    if align == 'probe3d':
        return cells / extent, best
    return (cells + 0.5) / extent * (1 + 2 * beyond) - beyond, best


def _best_pixel(similar: Tensor, size: int, margin: float) -> tuple[Tensor, Tensor]:
    """The pixel ``[K, 2]`` (x, y) of the image where an enlarged map is largest, and its number.

    Enlarging similarities is enlarging features, since both are linear.
    """
    found = []
    whole = round(size + 2 * margin)
    first = round(margin)
    for each in similar:  # one at a time: an enlarged map has a million values
        large = F.interpolate(each[None, None], size=(whole, whole), mode='bilinear')[0, 0]
        found.append(large[first : first + size, first : first + size].flatten().argmax())
    best = torch.stack(found)
    return torch.stack([best % size, best // size], dim=1).float(), best


def errors(
    places: Tensor, target: NDArray[np.int64], size: int, threshold_scale: float
) -> NDArray[np.float64]:
    """Distances of matches as shares of the larger side of the target's box ``[K]``.

    Args:
        places: ``[K, 2]`` of `match`.
        target: ``[K, 3]``, the true keypoints of `on_square`.
        size: Side of the square in pixels.
        threshold_scale: The larger side of the box over the larger side of the image.
    """
    true = torch.from_numpy(target[:, :2]).float() / size
    distances = (places.cpu() - true).norm(dim=1) / threshold_scale
    return distances.double().numpy()


def in_both(source: NDArray[np.int64], target: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers of the keypoints ``[K, 3]`` that are visible in both images."""
    return np.flatnonzero(source[:, 2] * target[:, 2] == 1)


def recall(found: Sequence[NDArray[np.float64]], share: float = SHARE) -> float | None:
    """Share of keypoints in percent that are matched, those of all pairs together.

    Args:
        found: Errors ``[K]`` of each pair.
        share: How large they may be.

    Returns:
        None where there is no keypoint.
    """
    together = np.concatenate([np.empty(0), *found])
    return 100 * float((together < share).mean()) if len(together) else None
