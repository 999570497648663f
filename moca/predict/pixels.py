"""Images of any kind that people hold in memory, brought to what the suite's reader gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from moca.errors import UserError
from moca.images.image_io import read_pixels
from moca.images.levels import UnknownRange, eight_bits
from moca.images.transforms import Pixels

ImageLike = NDArray[Any] | Image.Image | str | Path
"""A file, an image of Pillow, or an array: RGB ``[H, W, 3]``, RGBA likewise or gray ``[H, W]``."""

_PLAIN = ('L', 'RGB', 'RGBA', 'I;16', 'I', 'F')  # Pillow's modes whose numbers are the pixels'

Several = list[Any] | tuple[Any, ...]
"""Of `ImageLike`. A text is no list of images."""


def as_pixels(image: ImageLike) -> Pixels:
    """Read a file, or take an array, as RGB ``[H, W, 3]`` uint8.

    Arrays are treated as the pixels of files are: gray is repeated, alpha is dropped, and more than
    8 bits are brought to 8 by :mod:`moca.images.levels`.

    Raises:
        UserError: The file cannot be read, or the array is no image.
    """
    if isinstance(image, str | Path):
        return read_pixels(image)
    if isinstance(image, Image.Image) and image.mode not in _PLAIN:
        image = image.convert('RGB')  # a palette, CMYK and the like
    array: NDArray[Any] = np.asarray(image)
    shape = array.shape
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or not array.size:
        raise UserError(
            f'an array of shape {shape} is no image: give RGB [height, width, 3], with '
            'alpha [height, width, 4], or gray [height, width].'
        )
    if array.dtype.kind not in 'uifb':
        raise UserError(f'an array of {array.dtype} is no image: give uint8, RGB from 0 to 255.')
    array = array[..., :3] if array.shape[2] > 1 else array.repeat(3, axis=2)
    try:
        return np.ascontiguousarray(eight_bits(array))
    except UnknownRange as error:
        raise UserError(f'an array of shape {shape}: {error}.') from error
