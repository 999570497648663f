"""Pixel operators of the views, on ``[H, W, 3]`` uint8 RGB arrays.

Each follows the PIL operator of the published recipes (torchvision on PIL images), at a fraction
of the time. How far they differ on photographs, in levels of 255 (tests/images/test_transforms.py):

================  =======  =====  =================================================================
operator          largest   mean  why it is not 0
================  =======  =====  =================================================================
resize                  1   0.13  the same filter, rounded otherwise (bicubic: 6, mean 0.16)
contrast                1   0.01  OpenCV's gray value can differ by one (on saturation, gray too)
saturation              1   0.6   one rounding here, two in PIL
gray                    1   0.01
hue                    12   1.3   both go through 8-bit HSV; PIL truncates where OpenCV rounds
blur                    3   0.9   PIL rounds after each of its six box filters
blur, at borders       25   0.9   PIL extends the border anew for each of them
brightness,             0   0
solarize, flip
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

Pixels = npt.NDArray[np.uint8]
Interpolation = Literal['bilinear', 'bicubic']

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_LEVELS = np.arange(256, dtype=np.float32)
# ITU-R 601-2 luma, as PIL's `convert('L')`.
LUMA = np.array([0.299, 0.587, 0.114])
# PIL truncates blended values where cv2.transform rounds to nearest. Just under one half, so that
# a value that is whole but for rounding errors keeps itself.
TRUNCATE = -0.5 + 1 / 64


def resize(image: Pixels, size: int, interpolation: Interpolation = 'bilinear') -> Pixels:
    """Resize to ``[size, size, 3]``, antialiased when shrinking, as PIL does.

    ``cv2.INTER_LINEAR`` is not antialiased (1 to 6 levels off on average when halving a photograph)
    and ``INTER_AREA`` is another filter at three times the cost of torch's uint8 path.
    """
    planes = torch.from_numpy(image).permute(2, 0, 1)[None]
    resized = F.interpolate(
        planes, (size, size), mode=interpolation, antialias=True, align_corners=False
    )
    return cv2.merge(list(resized[0].numpy()))


def adjust_brightness(image: Pixels, factor: float) -> Pixels:
    """Multiply by ``factor``."""
    return _blend_with_level(image, 0, factor)


def adjust_contrast(image: Pixels, factor: float) -> Pixels:
    """Scale the distance from the mean gray value by ``factor``."""
    mean = int(cv2.mean(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))[0] + 0.5)
    return _blend_with_level(image, mean, factor)


def adjust_saturation(image: Pixels, factor: float) -> Pixels:
    """Scale the distance of each pixel from its own gray value by ``factor``."""
    matrix = np.empty((3, 4), dtype=np.float32)
    matrix[:, :3] = factor * np.eye(3) + (1 - factor) * LUMA
    matrix[:, 3] = TRUNCATE
    return cv2.transform(image, matrix)


def adjust_hue(image: Pixels, factor: float) -> Pixels:
    """Turn the hue by ``factor`` of the color circle, within -0.5 and 0.5."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
    # PIL turns by whole 255ths of the circle; OpenCV's circle has 256 steps.
    steps = round(math.trunc(factor * 255) * 256 / 255)
    hsv[..., 0] += np.uint8(steps % 256)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)


def to_gray(image: Pixels) -> Pixels:
    """Luma in all three channels."""
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def gaussian_blur(image: Pixels, radius: float) -> Pixels:
    """Blur by ``radius`` pixels of standard deviation, as ``PIL.ImageFilter.GaussianBlur``."""
    kernel = blur_kernel(radius)
    return cv2.sepFilter2D(image, -1, kernel, kernel, borderType=cv2.BORDER_REPLICATE)


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


def solarize(image: Pixels, threshold: int = 128) -> Pixels:
    """Invert the values at or above ``threshold``."""
    levels = np.arange(256, dtype=np.uint8)
    return cv2.LUT(image, np.where(levels < threshold, levels, 255 - levels))


def flip(image: Pixels) -> Pixels:
    """Mirror left and right."""
    return cv2.flip(image, 1)


def normalize(image: Pixels, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Scale to [0, 1], subtract ``mean``, divide by ``std``: ``[3, H, W]`` float32."""
    planes = np.empty((3, *image.shape[:2]), dtype=np.float32)
    for plane, channel, m, s in zip(planes, cv2.split(image), mean, std, strict=True):
        np.multiply(channel, np.float32(1 / (255 * s)), out=plane)
        plane -= np.float32(m / s)
    return torch.from_numpy(planes)


def planes(image: Pixels) -> Tensor:
    """One channel after the other: ``[3, H, W]`` uint8."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def _blend_with_level(image: Pixels, level: int, factor: float) -> Pixels:
    table = np.clip(level + factor * (_LEVELS - level), 0, 255)
    return cv2.LUT(image, table.astype(np.uint8))
