"""Generated rooms: floor, ceiling and walls as planes of known depth, seen by a turned camera."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

FOCAL = 0.9  # of the width


def room(
    random: np.random.Generator, size: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Draw a room: image ``[H, W, 3]`` and the distance along the optical axis in meters."""
    height, width = size
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    x = (columns - (width - 1) / 2) / (FOCAL * width)
    y = (rows - (height - 1) / 2) / (FOCAL * width)
    turn = random.uniform(-0.5, 0.5)
    rays = np.stack([x * np.cos(turn) + np.sin(turn), y, np.cos(turn) - x * np.sin(turn)], axis=-1)
    left, right = -random.uniform(1, 3), random.uniform(1, 3)
    up, down, far = -random.uniform(1, 1.5), random.uniform(1, 1.6), random.uniform(2.5, 7)
    planes = [(0, left), (0, right), (1, up), (1, down), (2, far)]
    reach = np.stack([_reach(rays[..., axis], place) for axis, place in planes])
    nearest, depth = reach.argmin(0), reach.min(0)
    points = rays * depth[..., None]
    image: NDArray[np.float64] = np.zeros((*size, 3))
    for number, (axis, _) in enumerate(planes):
        color = random.uniform(60, 220, 3)
        others = [points[..., i] for i in range(3) if i != axis]
        tiles = sum(np.floor(part / random.uniform(0.3, 0.7)) for part in others) % 2
        painted = color * (0.75 + 0.25 * tiles[..., None])
        image = np.where((nearest == number)[..., None], painted, image)
    image = image + random.normal(0, 8, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8), depth


def _reach(direction: NDArray[np.float64], place: float) -> NDArray[np.float64]:
    """How far along each ray a plane across an axis is; infinite behind the camera."""
    with np.errstate(divide='ignore'):
        found = place / direction
    return np.where(found > 0, found, np.inf)


def write_rooms(
    root: Path,
    train: int,
    val: int,
    size: tuple[int, int] = (112, 140),
    folders: tuple[str, str] = ('images', 'depth'),
    splits: tuple[str, str] = ('train', 'val'),
    suffix: str = '.png',
    times: int = 1,
) -> Path:
    """Write rooms as images and depth maps of 16 bits in millimeters, with two rows of no depth.

    Each pixel is repeated so many `times` on both sides, which is faster than to draw larger rooms.
    """
    random = np.random.default_rng(0)
    for split, count in zip(splits, (train, val), strict=True):
        for folder in folders:
            (root / folder / split).mkdir(parents=True)
        for index in range(count):
            image, depth = room(random, size)
            stored = (1000 * depth).round().astype(np.uint16)
            image, stored = (part.repeat(times, 0).repeat(times, 1) for part in (image, stored))
            stored[:2] = 0
            cv2.imwrite(str(root / folders[0] / split / f'room_{index:03d}{suffix}'), image)
            cv2.imwrite(str(root / folders[1] / split / f'room_{index:03d}.png'), stored)
    return root
