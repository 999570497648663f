"""Things with a shape: people, cars, signs, trees, houses. Each is a sprite in random colors.

Sizes are in pixels of the painted canvas; `unit` is the size of the texture's smallest element.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from tools.demo import textures
from tools.demo.canvas import Mask, Sprite
from tools.demo.palette import Palette, Pixels


def _blank(height: int, width: int) -> NDArray[np.uint8]:
    return np.zeros((max(2, height), max(2, width)), np.uint8)


def _polygon(image: NDArray[np.uint8], points: list[tuple[float, float]]) -> None:
    """Fill a polygon whose corners are given as shares of width and height."""
    height, width = image.shape
    corners = np.array([(x * (width - 1), y * (height - 1)) for x, y in points])
    cv2.fillPoly(image, [np.round(corners).astype(np.int32)], 1)


def _disc(image: NDArray[np.uint8], x: float, y: float, radius: float, value: int = 1) -> None:
    """Fill a disc; center in shares of width and height, radius in pixels."""
    height, width = image.shape
    center = (round(x * (width - 1)), round(y * (height - 1)))
    cv2.circle(image, center, max(1, round(radius)), value, -1)


def _put(colors: Pixels, mask: NDArray[np.uint8], part: Pixels) -> None:
    np.copyto(colors, part, where=mask.astype(bool)[..., None])


def _plain(palette: Palette, height: int, width: int, contrast: float = 0.12) -> Pixels:
    """A smooth surface: a vertical gradient between two close colors."""
    rows = np.linspace(0.0, 1.0, height, dtype=np.float32)[:, None]
    return palette.tint(np.repeat(rows, width, axis=1), contrast)


def person(rng: Generator, palette: Palette, height: int, unit: float) -> Sprite:
    """Somebody standing or walking, in a hooped pullover and plain trousers."""
    width = max(6, round(0.46 * height))
    torso, legs, head = (_blank(height, width) for _ in range(3))
    stride = rng.uniform(0.06, 0.24)
    _polygon(legs, [(0.34, 0.5), (0.5, 0.5), (0.46 - stride / 2, 1.0), (0.28 - stride, 1.0)])
    _polygon(legs, [(0.5, 0.5), (0.66, 0.5), (0.74 + stride, 1.0), (0.54 + stride / 2, 1.0)])
    arm = rng.uniform(0.0, 0.12)
    _polygon(
        torso,
        [
            *((0.3, 0.18), (0.7, 0.18), (0.96 - arm, 0.5), (0.82 - arm, 0.54), (0.7, 0.36)),
            *((0.7, 0.56), (0.3, 0.56), (0.3, 0.36), (0.18 + arm, 0.54), (0.04 + arm, 0.5)),
        ],
    )
    _disc(head, 0.5, 0.095, 0.088 * height)
    colors = _plain(palette, height, width)
    pullover = textures.hoops(rng, height, width, unit)
    _put(colors, torso, palette.tint(pullover))
    _put(colors, head, _plain(palette, height, width))
    return Sprite(colors, (torso | legs | head).astype(bool))


def car(rng: Generator, palette: Palette, height: int) -> Sprite:
    """A car from its side: smooth body, dark panes, wheels; smoothness tells it from the rest."""
    width = round(rng.uniform(2.0, 2.5) * height)
    body, panes, wheels, hubs = (_blank(height, width) for _ in range(4))
    roof = rng.uniform(0.0, 0.08)
    bonnet = rng.uniform(0.4, 0.48)
    _polygon(
        body,
        [
            *((0.0, 0.52), (0.14, 0.46), (0.26, 0.05 + roof), (0.64, 0.05 + roof)),
            *((0.8, bonnet), (0.98, 0.54), (1.0, 0.84), (0.0, 0.84)),
        ],
    )
    _polygon(panes, [(0.19, 0.46), (0.285, 0.13 + roof), (0.43, 0.13 + roof), (0.43, 0.46)])
    _polygon(panes, [(0.465, 0.46), (0.465, 0.13 + roof), (0.62, 0.13 + roof), (0.745, 0.46)])
    for x in (0.21, 0.79):
        _disc(wheels, x, 0.81, 0.185 * height)
        _disc(hubs, x, 0.81, 0.085 * height)
    colors = _plain(palette, height, width, rng.uniform(0.1, 0.25))
    colors[round(0.6 * height) : round(0.64 * height)] *= 0.75
    _put(colors, panes, 0.55 * _plain(palette, height, width))
    _put(colors, wheels, 0.3 * _plain(palette, height, width))
    _put(colors, hubs, _plain(palette, height, width))
    sprite = Sprite(colors, (body | wheels).astype(bool))
    return mirrored(sprite) if rng.random() < 0.5 else sprite


def sign(rng: Generator, palette: Palette, height: int, corners: int | None = None) -> Sprite:
    """A road sign's plate: a rim and a bar or a ring; `corners` None draws 3, 4, 8 or a disc."""
    sides = corners if corners is not None else int(rng.choice((3, 4, 8, 32)))
    plate, inner, glyph = (_blank(height, height) for _ in range(3))
    turn = -np.pi / 2 if sides != 8 else np.pi / 8
    angles = turn + 2 * np.pi * np.arange(sides) / sides
    for image, radius in ((plate, 0.5), (inner, 0.37)):
        _polygon(image, [(0.5 + radius * np.cos(a), 0.5 + radius * np.sin(a)) for a in angles])
    if rng.random() < 0.5:
        _polygon(glyph, [(0.28, 0.44), (0.72, 0.44), (0.72, 0.56), (0.28, 0.56)])
    else:
        _disc(glyph, 0.5, 0.5, 0.17 * height)
        _disc(glyph, 0.5, 0.5, 0.08 * height, value=0)
    dark, bright = palette.pair()
    colors = np.broadcast_to(dark, (*plate.shape, 3)).copy()
    _put(colors, inner, np.broadcast_to(bright, colors.shape))
    _put(colors, glyph, np.broadcast_to(dark, colors.shape))
    return Sprite(colors, plate.astype(bool))


def pole(palette: Palette, height: int, width: int) -> Sprite:
    """A post, rounded by its shading."""
    columns = np.linspace(-1.0, 1.0, max(2, width), dtype=np.float32)[None, :]
    shading = np.repeat(1.0 - columns**2, max(2, height), axis=0)
    return Sprite(palette.tint(shading, 0.3), np.ones(shading.shape, bool))


def tree(rng: Generator, palette: Palette, height: int, unit: float) -> Sprite:
    """A crown of leaves, now and then a tall one, on a short trunk."""
    width = round(rng.uniform(0.6, 1.0) * height)
    crown, trunk = _blank(height, width), _blank(height, width)
    for _ in range(int(rng.integers(4, 8))):
        x, y = rng.uniform(0.3, 0.7), rng.uniform(0.25, 0.55)
        _disc(crown, x, y, rng.uniform(0.16, 0.24) * min(height, width))
    _disc(crown, 0.5, 0.4, 0.3 * min(height, width))
    _polygon(trunk, [(0.46, 0.5), (0.54, 0.5), (0.56, 1.0), (0.44, 1.0)])
    colors = _plain(palette, *crown.shape)
    leaves = textures.foliage(rng, crown.shape[0], crown.shape[1], unit)
    _put(colors, crown, palette.tint(leaves))
    return Sprite(colors, (crown | trunk).astype(bool))


def house(rng: Generator, palette: Palette, height: int, width: int, unit: float) -> Sprite:
    """A brick front with rows of windows, some lit."""
    colors = palette.tint(textures.bricks(rng, height, width, unit))
    pitch_x, pitch_y = rng.uniform(9.0, 13.0) * unit, rng.uniform(10.0, 14.0) * unit
    pane, frame = palette.pair()
    lit = palette.pair()[0]
    wide, high = round(0.42 * pitch_x), round(0.5 * pitch_y)
    border = max(1, round(0.5 * unit))
    for top in np.arange(0.3 * pitch_y, height - high, pitch_y).astype(int):
        for left in np.arange(0.3 * pitch_x, width - wide, pitch_x).astype(int):
            window = colors[top : top + high, left : left + wide]
            window[:] = frame
            window[border:-border, border:-border] = lit if rng.random() < 0.3 else pane
    return Sprite(colors, np.ones((height, width), bool))


def fence(rng: Generator, palette: Palette, height: int, width: int, unit: float) -> Sprite:
    """Pickets with two rails."""
    field = textures.pickets(rng, height, width, unit)
    rail = max(1, round(0.8 * unit))
    for share in (0.22, 0.75):
        field[round(share * height) : round(share * height) + rail] = 0.9
    return Sprite(palette.tint(field), np.ones((height, width), bool))


def litter_bin(rng: Generator, palette: Palette, height: int) -> Sprite:
    """A dotted bin, which no class of the benchmark covers."""
    width = max(4, round(0.6 * height))
    mask = _blank(height, width)
    _polygon(mask, [(0.0, 0.0), (1.0, 0.0), (0.85, 1.0), (0.15, 1.0)])
    field = textures.dots(rng, height, width, max(1.0, height / 12))
    return Sprite(palette.tint(field), mask.astype(bool))


def ball(rng: Generator, palette: Palette, height: int) -> Sprite:
    """A ball with curved bands."""
    mask = _blank(height, height)
    _disc(mask, 0.5, 0.5, 0.49 * height)
    axis = np.linspace(-1.0, 1.0, mask.shape[0], dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    angle = rng.uniform(0.0, np.pi)
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    band = along / np.sqrt(np.clip(1.0 - across**2, 0.05, 1.0))
    field = 0.8 * (np.sin(3.5 * np.pi * band + rng.uniform(0, np.pi)) > 0) + 0.2 * (1 - x**2 - y**2)
    return Sprite(palette.tint(field.astype(np.float32)), mask.astype(bool))


def umbrella(rng: Generator, palette: Palette, height: int) -> Sprite:
    """An open umbrella: a half disc of sectors and its stick."""
    width = round(1.3 * height)
    shade, stick = _blank(height, width), _blank(height, width)
    center, axes = (width // 2, round(0.6 * height)), (width // 2 - 1, round(0.58 * height))
    cv2.ellipse(shade, center, axes, 0, 180, 360, 1, -1)
    _polygon(stick, [(0.485, 0.55), (0.515, 0.55), (0.515, 1.0), (0.485, 1.0)])
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    angle = np.arctan2(columns - width / 2, 0.95 * height - rows)
    sector = (np.floor(angle * rng.integers(4, 7)) % 2).astype(np.float32)
    colors = 0.5 * _plain(palette, height, width)
    _put(colors, shade, palette.tint(sector))
    return Sprite(colors, (shade | stick).astype(bool))


def mirrored(sprite: Sprite) -> Sprite:
    """The sprite as a mirror shows it."""
    return Sprite(sprite.colors[:, ::-1], sprite.mask[:, ::-1])


def whole(field_colors: Pixels) -> Sprite:
    """A sprite that covers its whole rectangle."""
    mask: Mask = np.ones(field_colors.shape[:2], bool)
    return Sprite(field_colors, mask)
