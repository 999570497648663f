"""Images for tests that have what a photograph has: a 1/f spectrum, colors, sharp edges."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from moca.images.transforms import Pixels


def photograph(height: int, width: int, seed: int) -> Pixels:
    """``[height, width, 3]`` RGB."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)) + 1 / height
    noise = np.fft.rfft2(rng.standard_normal((3, height, width))) / frequency
    planes = np.fft.irfft2(noise, s=(height, width))
    planes = np.clip(128 + 50 * planes / planes.std(), 0, 255)
    image = np.ascontiguousarray(planes.transpose(1, 2, 0).astype(np.uint8))
    for _ in range(12):
        color = rng.integers(0, 256, 3).tolist()
        corners = rng.integers(0, [width, height], (3, 2)).astype(np.int32)
        cv2.fillPoly(image, [corners], color, lineType=cv2.LINE_AA)
    return image


def save_photographs(folder: Path, count: int, height: int = 48, width: int = 64) -> list[str]:
    """Write JPEGs into two class folders; returns their sorted paths relative to ``folder``."""
    paths = []
    for number in range(count):
        path = folder / f'class{number % 2}' / f'{number:04d}.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photograph(height, width, number)).save(path, quality=90)
        paths.append(path.relative_to(folder).as_posix())
    return sorted(paths)
