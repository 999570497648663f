"""Gray textures with random phase, the raw material of the demo's images.

Every function draws a field `[H, W]` of float32 values in 0..1 whose phase is random: two brick
walls differ in every pixel. Classes made of these textures can hardly be told apart by a linear
function of pixels (nor by color, which `tools.demo.palette` draws at random); they differ in their
second-order statistics, which a network has to learn.

`unit` is the length in pixels of the texture's smallest element.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Field = NDArray[np.float32]


def _grid(height: int, width: int) -> tuple[Field, Field]:
    """Row and column coordinates `[H, 1]` and `[1, W]`, to be broadcast."""
    rows = np.arange(height, dtype=np.float32)[:, None]
    columns = np.arange(width, dtype=np.float32)[None, :]
    return rows, columns


def _joints(position: Field, share: float) -> Field:
    """1 inside a cell and 0 within its joint, which takes `share` of the cell's length."""
    return np.greater(position % 1.0, share).astype(np.float32)


def smooth_noise(rng: Generator, height: int, width: int, cells: float) -> Field:
    """Cubic noise with about `cells` bumps along the longer side."""
    longer = max(height, width)
    size = (max(2, round(cells * width / longer)), max(2, round(cells * height / longer)))
    coarse = rng.random(size[::-1], dtype=np.float32)
    return np.clip(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), 0.0, 1.0)


def clouds(rng: Generator, height: int, width: int, unit: float) -> Field:
    """A soft vertical gradient with two octaves of drifting cloud: no fine detail at all."""
    rows, _ = _grid(height, width)
    gradient = rows / height if rng.random() < 0.5 else 1.0 - rows / height
    length = max(height, width) / unit
    cloud = 0.7 * smooth_noise(rng, height, width, length / 24)
    cloud += 0.3 * smooth_noise(rng, height, width, length / 10)
    return 0.5 * gradient + 0.5 * cloud


def grain(rng: Generator, height: int, width: int, unit: float) -> Field:
    """Asphalt: isotropic noise without any structure."""
    noise = cv2.GaussianBlur(rng.random((height, width), dtype=np.float32), (0, 0), 0.45 * unit)
    return np.clip(0.5 + (noise - noise.mean()) / (4.0 * noise.std() + 1e-6), 0.0, 1.0)


def paving(rng: Generator, height: int, width: int, unit: float, perspective: float = 0.0) -> Field:
    """Square slabs on a turned grid, a shade each; `perspective` shrinks them towards the top."""
    rows, columns = _grid(height, width)
    depth = 1.0 - perspective * (1.0 - rows / height)
    across = (columns - width * rng.random()) / depth
    along = height * np.log(depth) / perspective if perspective else rows
    angle = rng.uniform(0.0, np.pi / 2) if not perspective else rng.uniform(-0.5, 0.5)
    pitch = 4.5 * unit
    u = (across * np.cos(angle) + along * np.sin(angle)) / pitch + rng.random()
    v = (along * np.cos(angle) - across * np.sin(angle)) / pitch + rng.random()
    shades = rng.random((16, 16), dtype=np.float32)
    slab = shades[np.floor(u).astype(int) % 16, np.floor(v).astype(int) % 16]
    return (0.45 + 0.55 * slab) * _joints(u, 0.22) * _joints(v, 0.22)


def bricks(rng: Generator, height: int, width: int, unit: float) -> Field:
    """Courses of bricks in running bond."""
    rows, columns = _grid(height, width)
    v = rows / (2.4 * unit) + rng.random()
    course = np.floor(v).astype(int)
    u = columns / (5.2 * unit) + rng.random() + 0.5 * (course % 2)
    shades = rng.random((16, 32), dtype=np.float32)
    brick = shades[course % 16, np.floor(u).astype(int) % 32]
    return (0.5 + 0.5 * brick) * _joints(v, 0.3) * _joints(u, 0.14)


def pickets(rng: Generator, height: int, width: int, unit: float) -> Field:
    """Upright stripes, as of a picket fence."""
    rows, columns = _grid(height, width)
    period = rng.uniform(2.6, 3.4) * unit
    wave = np.sin(2 * np.pi * (columns / period + rng.random()))
    return np.clip(0.5 + 1.2 * wave, 0.0, 1.0) + 0.0 * rows


def hoops(rng: Generator, height: int, width: int, unit: float) -> Field:
    """Level stripes, as of a knitted pullover."""
    return np.ascontiguousarray(pickets(rng, width, height, unit).T)


def foliage(rng: Generator, height: int, width: int, unit: float) -> Field:
    """Leaves: Voronoi cells of random points, each in its own shade, darker towards its edge."""
    count = max(4, round(height * width / (2.9 * unit) ** 2))
    image = np.full((height, width), 255, np.uint8)
    image[rng.integers(0, height, count), rng.integers(0, width, count)] = 0
    distance, cell = cv2.distanceTransformWithLabels(
        image, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    shade = rng.random(count + 1, dtype=np.float32)[cell]
    rim = np.clip(1.25 - distance / (2.0 * unit), 0.0, 1.0)
    return np.clip((0.25 + 0.75 * shade) * rim, 0.0, 1.0)


def dots(rng: Generator, height: int, width: int, unit: float) -> Field:
    """Polka dots on a hexagonal grid."""
    rows, columns = _grid(height, width)
    pitch = 3.6 * unit
    v = rows / pitch + rng.random()
    u = columns / pitch + rng.random() + 0.5 * (np.floor(v).astype(int) % 2)
    radius = np.hypot(u % 1.0 - 0.5, v % 1.0 - 0.5)
    return np.clip((0.42 - radius) * pitch / 2 + 0.5, 0.0, 1.0)
