"""Folders of tiny labeled images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def write_images(
    folder: Path, classes: list[str], count: int, seed: int = 0, side: int = 16
) -> Path:
    """Write PNG images whose color tells their class, under the class folders."""
    random = np.random.default_rng(seed)
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        color = np.random.default_rng(number).integers(30, 220, 3)
        for index in range(count):
            noise = random.integers(-30, 30, (side, side, 3))
            pixels = (color + noise).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f'{index:02d}.png')
    return folder


@pytest.fixture(scope='session')
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four classes, of 16 training images and 3 of val each, 16 pixels wide."""
    root = tmp_path_factory.mktemp('images')
    classes = ['ant', 'bee', 'cow', 'dog']
    write_images(root / 'train', classes, 16)
    write_images(root / 'val', classes, 3, seed=1)
    return root
