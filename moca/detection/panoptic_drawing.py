"""Pictures of panoptic segments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from moca.figures import Image, distinct_colors

_OPACITY = 0.6


def color_segments(
    image: Image,
    ids: NDArray[np.integer],
    labels: Mapping[int, int],
    num_classes: int,
    palette: Sequence[Sequence[float]] | None = None,
) -> Image:
    """Lay segments over an image: the color of their class, lighter or darker, in white lines.

    Args:
        image: RGB, ``[H, W, 3]``.
        ids: Of each pixel's segment, ``[H, W]``.
        labels: Class of each id; pixels of other ids stay as they are.
        num_classes: Of the data set.
        palette: RGB in 0..255 of each class; None for distinct colors.
    """
    colors = np.asarray(palette or distinct_colors(num_classes), np.float64)
    drawn = image.astype(np.float64)
    for place, (key, label) in enumerate(labels.items()):
        mask = ids == key
        shade = 1.0 + 0.25 * (place % 3 - 1)  # neighbors of a class differ
        color = np.clip(colors[label] * shade, 0, 255)
        drawn[mask] += _OPACITY * (color - drawn[mask])
    edge = np.zeros(ids.shape, bool)
    edge[:, 1:] |= ids[:, 1:] != ids[:, :-1]
    edge[1:] |= ids[1:] != ids[:-1]
    drawn[edge] = 255
    return drawn.round().astype(np.uint8)
