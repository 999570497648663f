"""Random colors and light, drawn without any regard to what is painted with them."""

from __future__ import annotations

import colorsys

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from tools.demo.textures import Field, smooth_noise

Color = NDArray[np.float32]
Pixels = NDArray[np.float32]

SATURATION = (0.1, 0.38)

CONTRAST = (0.5, 0.75)
"""Difference of the values of a texture's two colors (of 1). It is large, and the mean of the two
varies little, so that texture rather than brightness is what differs between regions."""


class Palette:
    """The colors of one image: pairs (dark, light) of any hue, alike in saturation."""

    def __init__(self, rng: Generator) -> None:
        self._rng = rng
        self._saturation = rng.uniform(*SATURATION)

    def _color(self, hue: float, value: float) -> Color:
        saturation = self._saturation * self._rng.uniform(0.6, 1.3)
        return np.array(colorsys.hsv_to_rgb(hue % 1.0, min(1.0, saturation), value), np.float32)

    def pair(self, contrast: float | None = None) -> tuple[Color, Color]:
        """Two colors `[3]` in 0..1, values `contrast` apart (drawn if None), either one first."""
        rng = self._rng
        hue = rng.random()
        step = rng.uniform(*CONTRAST) if contrast is None else contrast
        low = np.clip(rng.uniform(0.5, 0.6) - step / 2, 0.05, 0.98 - step)
        colors = self._color(hue, low), self._color(hue + rng.normal(0.0, 0.03), low + step)
        return colors if rng.random() < 0.5 else colors[::-1]

    def tint(self, field: Field, contrast: float | None = None) -> Pixels:
        """Color a gray field `[H, W]`: `[H, W, 3]` between the two colors of a new pair."""
        first, second = self.pair(contrast)
        # An affine map per pixel; numpy's broadcasting takes five times as long.
        return cv2.transform(field[..., None], np.stack([second - first, first], axis=1))


def light(rng: Generator, image: Pixels) -> NDArray[np.uint8]:
    """Put an image `[H, W, 3]` (0..1) under a random light: slope, cast, gamma, noise; uint8."""
    height, width = image.shape[:2]
    slope = 0.95 + 0.15 * smooth_noise(rng, height, width, 2.0)
    cast = rng.uniform(0.94, 1.06, 3).astype(np.float32)
    gamma = np.float32(rng.uniform(0.85, 1.1))
    lit = np.clip(image * slope[..., None] * cast, 0.0, 1.0) ** gamma
    noise = rng.normal(0.0, 0.012, (height, width, 1)).astype(np.float32)
    return np.clip((lit + noise) * 255.0 + 0.5, 0.0, 255.0).astype(np.uint8)
