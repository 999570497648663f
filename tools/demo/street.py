"""The parts that a scene is put together from: ground, road, houses, greenery, passers-by."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.random import Generator

from tools.demo import objects, textures
from tools.demo.canvas import IGNORE, SCALE, Canvas, Sprite
from tools.demo.palette import Palette

TRAIN_IDS = {
    'road': 0,
    'sidewalk': 1,
    'building': 2,
    'fence': 4,
    'pole': 5,
    'traffic sign': 7,
    'vegetation': 8,
    'sky': 10,
    'person': 11,
    'car': 13,
}
"""The train ids of Cityscapes (of 19) that the scenes use, by their names there."""

UNIT = 1.5
"""Smallest element of a texture in pixels of the finished image: bricks of 4 x 8, pickets 4.5
apart, so that a patch of 8 x 8 pixels shows one or two periods."""


class Street:
    """One scene in the making: the canvas, the colors, and where the ground begins."""

    def __init__(self, rng: Generator, height: int, width: int) -> None:
        self.rng = rng
        self.canvas = Canvas(height, width)
        self.palette = Palette(rng)
        self.zoom = float(rng.uniform(0.8, 1.3))
        self.unit = UNIT * SCALE * self.zoom
        self.horizon = round(self.canvas.height * rng.uniform(0.25, 0.68))
        self.vanishing = round(self.canvas.width * rng.uniform(0.1, 0.9))

    def length(self, low: float, high: float) -> int:
        """A random length on the canvas, given in pixels of a finished image at zoom 1."""
        return round(self.rng.uniform(low, high) * SCALE * self.zoom)

    def fill(self, texture: Callable[..., textures.Field], top: int, train_id: int) -> None:
        """Cover everything below row `top` with a texture."""
        height = self.canvas.height - top
        field = texture(self.rng, height, self.canvas.width, self.unit)
        self.canvas.paint(objects.whole(self.palette.tint(field)), 0, top, train_id)

    def sky(self) -> None:
        """Clouds over the whole canvas, of little contrast."""
        field = textures.clouds(self.rng, self.canvas.height, self.canvas.width, self.unit)
        self.canvas.paint(objects.whole(self.palette.tint(field, 0.25)), 0, 0, TRAIN_IDS['sky'])

    def pavement(self, perspective: float) -> None:
        """Pave the ground with slabs that shrink towards the horizon."""
        height = self.canvas.height - self.horizon
        field = textures.paving(self.rng, height, self.canvas.width, self.unit, perspective)
        slabs = objects.whole(self.palette.tint(field))
        self.canvas.paint(slabs, 0, self.horizon, TRAIN_IDS['sidewalk'])

    def road(self, spread: float) -> None:
        """A dashed road to the vanishing point; `spread` is its half width at the bottom."""
        rng, canvas = self.rng, self.canvas
        height, width = canvas.height - self.horizon, canvas.width
        middle = self.vanishing + rng.uniform(-0.3, 0.3) * width
        near, far = spread * width, 0.06 * width
        top = [(self.vanishing - far, 0.0), (self.vanishing + far, 0.0)]
        bottom = [(middle + near, height), (middle - near, height)]
        mask = np.zeros((height, width), np.uint8)
        cv2.fillPoly(mask, [np.array(top + bottom).astype(np.int32)], 1)
        dashes = np.zeros_like(mask)
        for start in np.arange(0.05, 1.0, 0.2):
            ends = [
                (round(self.vanishing + (middle - self.vanishing) * share), round(share * height))
                for share in (start, start + 0.1)
            ]
            cv2.line(dashes, ends[0], ends[1], 1, max(1, round((0.3 + start) * 2.2 * SCALE)))
        colors = self.palette.tint(textures.grain(rng, height, width, self.unit))
        colors[dashes > 0] = self.palette.pair()[0]
        canvas.paint(Sprite(colors, mask.astype(bool)), 0, self.horizon, TRAIN_IDS['road'])

    def houses(self, density: float) -> None:
        """A row of houses along the horizon; `density` is the share of its width built over."""
        left = -self.length(0, 40)
        while left < self.canvas.width:
            width, height = self.length(30, 75), self.length(25, 95)
            if self.rng.random() < density:
                sprite = objects.house(self.rng, self.palette, height, width, self.unit)
                foot = self.horizon + self.length(0, 4)
                self.canvas.paint(sprite, left, foot - height, TRAIN_IDS['building'])
            left += width + (0 if self.rng.random() < 0.6 else self.length(5, 25))

    def hedge(self, depth: int) -> None:
        """A wavy hedge of `depth` rows along the horizon."""
        width = self.canvas.width
        wave = textures.smooth_noise(self.rng, 2, width, 5.0)[0]
        mask = np.arange(depth)[:, None] >= 0.6 * depth * wave[None, :]
        leaves = self.palette.tint(textures.foliage(self.rng, depth, width, self.unit))
        top = self.horizon - depth // 2
        self.canvas.paint(Sprite(leaves, mask), 0, top, TRAIN_IDS['vegetation'])

    def trees(self, count: int) -> None:
        """Trees at random places, the nearer ones last."""
        nearest = self.horizon + self.length(8, 40)
        for foot in sorted(self.rng.integers(self.horizon, nearest, count).tolist()):
            sprite = objects.tree(self.rng, self.palette, self.length(40, 90), self.unit)
            height, width = sprite.mask.shape
            left = int(self.rng.integers(-width // 2, self.canvas.width - width // 2))
            self.canvas.paint(sprite, left, foot - height, TRAIN_IDS['vegetation'])

    def fence(self) -> None:
        """A fence over a part of the width."""
        height = self.length(14, 30)
        width = round(self.rng.uniform(0.35, 0.9) * self.canvas.width)
        left = int(self.rng.integers(-width // 4, self.canvas.width - width // 2))
        sprite = objects.fence(self.rng, self.palette, height, width, self.unit)
        top = self.horizon + self.length(0, 20) - height // 2
        self.canvas.paint(sprite, left, top, TRAIN_IDS['fence'])

    def place(self, sprite: Sprite, foot: int, train_id: int, category: str | None = None) -> None:
        """Stand a sprite with its shadow on row `foot`; a `category` makes it an instance."""
        height, width = sprite.mask.shape
        left = int(self.rng.integers(-width // 3, max(1, self.canvas.width - 2 * width // 3)))
        shadow = round(0.9 * width), max(2, height // 10)
        self.canvas.shade(left + width // 2, foot, *shadow, strength=0.45)
        instance = self.canvas.new_instance(category) if category else 0
        self.canvas.paint(sprite, left, foot - height, train_id, instance)

    def sign(self, foot: int) -> None:
        """A sign on its pole."""
        plate = objects.sign(self.rng, self.palette, self.length(14, 26))
        size = plate.mask.shape[0]
        thickness, height = self.length(2.5, 4), self.length(26, 48)
        left = int(self.rng.integers(0, max(1, self.canvas.width - size)))
        post = objects.pole(self.palette, height, thickness)
        self.canvas.paint(post, left + (size - thickness) // 2, foot - height, TRAIN_IDS['pole'])
        self.canvas.paint(plate, left, foot - height - size // 3, TRAIN_IDS['traffic sign'])

    def bystanders(self, **at_most: int) -> None:
        """Persons, cars, signs, bins on the ground, up to so many per square; nearer ones last."""
        rng, squares = self.rng, self.canvas.width / self.canvas.height
        names = [
            name
            for name, count in at_most.items()
            for _ in range(round(rng.uniform(0, count) * squares))
        ]
        low, high = self.horizon + self.length(6, 14), round(0.99 * self.canvas.height)
        feet = rng.integers(low, max(low + 1, high), len(names)).tolist()
        for foot, name in sorted(zip(feet, names, strict=True)):
            self._bystander(name, foot, nearness=0.7 + 0.6 * (foot - low) / max(1, high - low))

    def _bystander(self, name: str, foot: int, nearness: float) -> None:
        rng, palette = self.rng, self.palette
        if name == 'persons':
            height = round(nearness * self.length(32, 56))
            sprite = objects.person(rng, palette, height, 0.8 * self.unit)
            self.place(sprite, foot, TRAIN_IDS['person'], 'person')
        elif name == 'cars':
            sprite = objects.car(rng, palette, round(nearness * self.length(18, 28)))
            self.place(sprite, foot, TRAIN_IDS['car'], 'car')
        elif name == 'signs':
            self.sign(foot)
        else:
            sprite = objects.litter_bin(rng, palette, round(nearness * self.length(11, 16)))
            self.place(sprite, foot, IGNORE)
