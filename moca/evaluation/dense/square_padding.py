"""Images padded to a square, and maps of sizes that are no whole patches, as probe3d makes them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from moca.evaluation.labeled import normalize

WHITE = 255


def square_tensor(
    image: NDArray[np.uint8], size: int, mean: Sequence[float], std: Sequence[float]
) -> Tensor:
    """An image padded with white on the right and below, resized (bicubic) and normalized.

    Args:
        image: RGB ``[H, W, 3]``.
        size: Side of the square in pixels.
        mean: Per channel, of pixels from 0 to 1.
        std: Likewise.

    Returns:
        ``[3, size, size]`` fp32.
    """
    height, width = image.shape[:2]
    side = max(height, width)
    square = np.full((side, side, 3), WHITE, np.uint8)
    square[:height, :width] = image
    resized = Image.fromarray(square).resize((size, size), Image.Resampling.BICUBIC)
    return normalize(resized, mean, std)


def patch_margin(size: int, patch: int) -> int:
    """Pixels that are missing before the first patch, where a side is not whole patches."""
    return -size % patch // 2


def pad_to_patches(images: Tensor, patch: int) -> Tensor:
    """Pad normalized images with zeros on all sides to whole patches, evenly.

    Args:
        images: ``[B, 3, S, S]``.
        patch: Side of a patch in pixels.

    Returns:
        ``[B, 3, S', S']``; of an odd number of pixels, one more is on the right and below.
    """
    missing = -images.shape[-1] % patch
    if not missing:
        return images
    before = missing // 2
    after = missing - before
    return F.pad(images, (before, after, before, after))
