"""Pixel operators of the views, on ``[H, W, 3]`` uint8 RGB arrays.

Each follows the PIL operator of the published recipes (torchvision on PIL pictures), at a fraction
of the time. How far they differ on photographs, in levels of 255 (tests/images/test_transforms.py):

================  =======  =====  =================================================================
operator          largest   mean  why it is not 0
================  =======  =====  =================================================================
resize                  1   0.13  the same filter, rounded otherwise (bicubic: 6, mean 0.16)
contrast                1   0.01  OpenCV's grey value can differ by one (on saturation, grey too)
saturation              1   0.6   one rounding here, two in PIL
grey                    1   0.01
hue                    12   1.3   both go through 8-bit HSV; PIL truncates where OpenCV rounds
blur                    3   0.9   PIL rounds after each of its six box filters
blur, at borders       25   0.9   PIL extends the border anew for each of them
brightness,             0   0
solarise, flip
================  =======  =====  =================================================================
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

Picture = npt.NDArray[np.uint8]
Interpolation = Literal['bilinear', 'bicubic']

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_LEVELS = np.arange(256, dtype=np.float32)
# ITU-R 601-2 luma, as PIL's `convert('L')`.
_LUMA = np.array([0.299, 0.587, 0.114])
# PIL truncates blended values where cv2.transform rounds to nearest. Just under one half, so that
# a value that is whole but for rounding errors keeps itself.
_TRUNCATE = -0.5 + 1 / 64


def resize(picture: Picture, size: int, interpolation: Interpolation = 'bilinear') -> Picture:
    """Resize to ``[size, size, 3]``, antialiased when shrinking, as PIL does.

    ``cv2.INTER_LINEAR`` is not antialiased (1 to 6 levels off on average when halving a photograph)
    and ``INTER_AREA`` is another filter at three times the cost of torch's uint8 path.
    """
    planes = torch.from_numpy(picture).permute(2, 0, 1)[None]
    resized = F.interpolate(
        planes, (size, size), mode=interpolation, antialias=True, align_corners=False
    )
    return cv2.merge(list(resized[0].numpy()))


def adjust_brightness(picture: Picture, factor: float) -> Picture:
    """Multiply by ``factor``."""
    return _blend_with_level(picture, 0, factor)


def adjust_contrast(picture: Picture, factor: float) -> Picture:
    """Scale the distance from the mean grey value by ``factor``."""
    mean = int(cv2.mean(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY))[0] + 0.5)
    return _blend_with_level(picture, mean, factor)


def adjust_saturation(picture: Picture, factor: float) -> Picture:
    """Scale the distance of each pixel from its own grey value by ``factor``."""
    matrix = np.empty((3, 4), dtype=np.float32)
    matrix[:, :3] = factor * np.eye(3) + (1 - factor) * _LUMA
    matrix[:, 3] = _TRUNCATE
    return cv2.transform(picture, matrix)


def adjust_hue(picture: Picture, factor: float) -> Picture:
    """Turn the hue by ``factor`` of the colour circle, within -0.5 and 0.5."""
    hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV_FULL)
    # PIL turns by whole 255ths of the circle; OpenCV's circle has 256 steps.
    steps = round(math.trunc(factor * 255) * 256 / 255)
    hsv[..., 0] += np.uint8(steps % 256)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)


def to_grey(picture: Picture) -> Picture:
    """Luma in all three channels."""
    return cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def gaussian_blur(picture: Picture, radius: float) -> Picture:
    """Blur by ``radius`` pixels of standard deviation, as ``PIL.ImageFilter.GaussianBlur``."""
    kernel = blur_kernel(radius)
    return cv2.sepFilter2D(picture, -1, kernel, kernel, borderType=cv2.BORDER_REPLICATE)


def blur_kernel(radius: float, passes: int = 3) -> npt.NDArray[np.float32]:
    """The one-dimensional kernel of PIL's Gaussian blur.

    PIL filters three times with a box of fractional width whose variance is a third of the
    Gaussian's ("extended box filter": Gwosdek et al., SSVM 2011; Pillow, src/libImaging/BoxBlur.c).
    Around radius .3 that is up to 34 levels away from a true Gaussian, hence the same kernel here:
    the box convolved with itself.
    """
    variance = radius * radius / passes
    whole = math.floor((math.sqrt(12 * variance + 1) - 1) / 2)
    edge = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance)
    edge /= 6 * (variance - (whole + 1) ** 2)
    box = np.ones(2 * whole + 3)
    box[0] = box[-1] = edge
    box /= box.sum()
    kernel: npt.NDArray[np.floating] = box
    for _ in range(passes - 1):
        kernel = np.convolve(kernel, box)
    return kernel.astype(np.float32)


def solarise(picture: Picture, threshold: int = 128) -> Picture:
    """Invert the values at or above ``threshold``."""
    levels = np.arange(256, dtype=np.uint8)
    return cv2.LUT(picture, np.where(levels < threshold, levels, 255 - levels))


def flip(picture: Picture) -> Picture:
    """Mirror left and right."""
    return cv2.flip(picture, 1)


def normalise(picture: Picture, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Scale to [0, 1], subtract ``mean``, divide by ``std``: ``[3, H, W]`` float32."""
    planes = np.empty((3, *picture.shape[:2]), dtype=np.float32)
    for plane, channel, m, s in zip(planes, cv2.split(picture), mean, std, strict=True):
        np.multiply(channel, np.float32(1 / (255 * s)), out=plane)
        plane -= np.float32(m / s)
    return torch.from_numpy(planes)


def _blend_with_level(picture: Picture, level: int, factor: float) -> Picture:
    table = np.clip(level + factor * (_LEVELS - level), 0, 255)
    return cv2.LUT(picture, table.astype(np.uint8))
