"""Pixels of more than 8 bits, brought to 8.

=======================  ==========================================================================
stored values            level of 0 to 255
=======================  ==========================================================================
whole, up to 255         the value itself
whole, up to 4095        the eight highest of 12 bits: detectors and cameras write 12 bits into 16
whole, up to 65535       the eight highest of 16 bits, as libpng, OpenCV and Pillow have it
floats of 0 to 1         255 times the value, rounded; 5 % beyond are cut off
floats of 0 to 255       the value, rounded; 5 % beyond are cut off
others                   none: the image is refused, since no one knows what its white is
=======================  ==========================================================================

The largest value of the image decides [our choice: files do not say how many bits they use].
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

_BITS = (8, 12, 16)
_OVERSHOOT = 0.05  # of bicubic resizing, at edges [our choice]


class UnknownRange(ValueError):
    """It is not known which values are black and white; the text says what is there."""


def eight_bits(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Bring values to 0 .. 255, as the module's table says.

    Args:
        values: Of any shape and type, not empty.

    Raises:
        UnknownRange: They are negative, above 65535 (floats: 255), or no numbers.
    """
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)
    low, high = values.min(), values.max()
    if values.dtype.kind == 'f':
        for white in (1, 255):  # NaN is in neither range
            if low >= -_OVERSHOOT * white and high <= (1 + _OVERSHOOT) * white:
                return np.rint(np.clip(values, 0, white) * (255 / white)).astype(np.uint8)
        raise _unknown(low, high, 'bring floats to 0 .. 1 or 0 .. 255')
    if low < 0 or high >= 2**16:
        raise _unknown(low, high, 'bring them to 8 or 16 bits')
    bits = next(bits for bits in _BITS if high < 2**bits)
    return (values >> (bits - 8)).astype(np.uint8)


def _unknown(low: Any, high: Any, remedy: str) -> UnknownRange:
    return UnknownRange(
        f'it holds values from {low:g} to {high:g}, of which no one knows what is white: {remedy}'
    )
