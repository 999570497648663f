"""A canvas that keeps, with every stroke, what was painted: color, semantic label, instance."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from tools.demo.palette import Pixels

SCALE = 2
"""Images are painted at twice their size: edges come out smooth while labels stay exact."""

IGNORE = 255
"""The train id of Cityscapes for pixels that belong to no class of the benchmark."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Instance:
    """One object: its COCO category and the part of it that is visible, `[2H, 2W]`."""

    category: str
    mask: Mask
    crowd: bool = False


@dataclass(frozen=True)
class Scene:
    """An image: RGB uint8 `[H, W, 3]`, train ids uint8 `[H, W]`, objects back to front."""

    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    instances: list[Instance]


@dataclass(frozen=True)
class Sprite:
    """Something to paste: colors `[h, w, 3]` in 0..1 and the pixels `[h, w]` that it covers."""

    colors: Pixels
    mask: Mask


class Canvas:
    """Painter's algorithm over colors, train ids and instance numbers, at the painted size."""

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height * SCALE, width * SCALE
        self.colors = np.zeros((self.height, self.width, 3), np.float32)
        self.labels = np.full((self.height, self.width), IGNORE, np.uint8)
        self.owner = np.zeros((self.height, self.width), np.uint16)
        self._categories: list[tuple[str, bool]] = []

    def new_instance(self, category: str, crowd: bool = False) -> int:
        """Number for the pixels of one more object; 0 means 'no object'."""
        self._categories.append((category, crowd))
        return len(self._categories)

    def paint(self, sprite: Sprite, left: int, top: int, train_id: int, instance: int = 0) -> None:
        """Paste a sprite with its upper left corner at (`left`, `top`), cut off at the border."""
        height, width = sprite.mask.shape
        x0, y0 = max(0, left), max(0, top)
        x1, y1 = min(self.width, left + width), min(self.height, top + height)
        if x0 >= x1 or y0 >= y1:
            return
        there = np.s_[y0:y1, x0:x1]
        here = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
        mask = sprite.mask[here]
        np.copyto(self.colors[there], sprite.colors[here], where=mask[..., None])
        np.copyto(self.labels[there], np.uint8(train_id), where=mask)
        np.copyto(self.owner[there], np.uint16(instance), where=mask)

    def shade(self, x: int, y: int, width: int, height: int, strength: float) -> None:
        """Darken an ellipse on the ground, under an object, by `strength` (0..1) at its center."""
        reach_x, reach_y = width, 2 * max(1, height)
        x0, x1 = max(0, x - reach_x), min(self.width, x + reach_x)
        y0, y1 = max(0, y - reach_y), min(self.height, y + reach_y)
        if x0 >= x1 or y0 >= y1:
            return
        columns = (np.arange(x0, x1, dtype=np.float32)[None, :] - x) / (0.5 * width)
        rows = (np.arange(y0, y1, dtype=np.float32)[:, None] - y) / (0.5 * height)
        self.colors[y0:y1, x0:x1] *= (1.0 - strength * np.exp(-(columns**2 + rows**2)))[..., None]

    def image(self) -> Pixels:
        """The colors at final size, `[H, W, 3]`."""
        size = (self.width // SCALE, self.height // SCALE)
        return cv2.resize(self.colors, size, interpolation=cv2.INTER_AREA)

    def finish(self, image: NDArray[np.uint8]) -> Scene:
        """Bind a lit image to the labels at final size and to the objects still visible."""
        instances = [
            Instance(category, self.owner == number, crowd)
            for number, (category, crowd) in enumerate(self._categories, start=1)
        ]
        visible = [instance for instance in instances if instance.mask.any()]
        return Scene(image, np.ascontiguousarray(self.labels[::SCALE, ::SCALE]), visible)
