"""Write the demo's data sets to disk in the formats of ImageFolder, Cityscapes and COCO.

Every image has a generator of its own, seeded by (seed, data set, split, number): the same
settings give the same bytes, and image 7 does not change when more images are asked for.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator, default_rng
from numpy.typing import NDArray

from moca.errors import UserError
from tools.demo.canvas import Scene
from tools.demo.coco import annotation, document
from tools.demo.scenes import KINDS, draw_scene
from tools.demo.things import draw_things

VERSION = 1
"""To be raised when the same settings would give other images, so that old data are made anew."""

STAMP = 'demo-data.json'

CITIES = dict(train=('brickfield', 'hedgeworth', 'paveham'), val=('picketon',))
"""Invented cities, in Cityscapes' manner: those of val do not occur in train."""


@dataclass(frozen=True)
class DataSettings:
    """How many images of each kind, and their sizes in pixels (COCO's vary by 23 %)."""

    images: int = 1200
    image_size: int = 96
    streets_train: int = 120
    streets_val: int = 40
    street_height: int = 128
    things_train: int = 120
    things_val: int = 40
    thing_size: int = 104
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < (0 if name == 'seed' else 1):
                raise UserError(f'demo data: {name} is {value}; it must be at least 1 (a seed: 0)')

    @property
    def total(self) -> int:
        """Number of images of all sets."""
        streets = self.streets_train + self.streets_val
        return self.images + streets + self.things_train + self.things_val


def _write(path: Path, image: NDArray[np.uint8]) -> None:
    """Write a gray or an RGB image; the suffix names the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = image[..., ::-1] if image.ndim == 3 else image
    options = [cv2.IMWRITE_JPEG_QUALITY, 93] if path.suffix == '.jpg' else []
    if not cv2.imwrite(str(path), stored, options):
        raise UserError(f'{path}: the image could not be written; is the disk full or read-only?')


def _generator(settings: DataSettings, *path: int) -> Generator:
    return default_rng((settings.seed, VERSION, *path))


def write_images(root: Path, settings: DataSettings) -> Iterator[Path]:
    """Unlabeled images for pre-training: `images/train/<kind of scene>/<number>.jpg`."""
    kinds = list(KINDS)
    for number in range(settings.images):
        kind = kinds[number % len(kinds)]
        size = settings.image_size
        scene = draw_scene(_generator(settings, 0, number), size, size, kind)
        path = root / 'images' / 'train' / kind / f'{number:06d}.jpg'
        _write(path, scene.image)
        yield path


def write_streets(root: Path, settings: DataSettings) -> Iterator[Path]:
    """Segmentation set with Cityscapes' layout, names and train ids: `streets/`."""
    kinds = list(KINDS)
    counts = dict(train=settings.streets_train, val=settings.streets_val)
    for which, (split, count) in enumerate(counts.items()):
        for number in range(count):
            rng = _generator(settings, 1, which, number)
            height = settings.street_height
            scene = draw_scene(rng, height, 2 * height, kinds[number % len(kinds)])
            city = CITIES[split][number % len(CITIES[split])]
            path = _write_street(root / 'streets', split, city, number, scene)
            yield path


def _write_street(root: Path, split: str, city: str, number: int, scene: Scene) -> Path:
    # Cityscapes names a frame city_sequence_frame and annotates frame 19 of each sequence.
    stem = f'{city}_{number:06d}_000019'
    path = root / 'leftImg8bit' / split / city / f'{stem}_leftImg8bit.png'
    _write(path, scene.image)
    _write(root / 'gtFine' / split / city / f'{stem}_gtFine_labelTrainIds.png', scene.labels)
    return path


def write_things(root: Path, settings: DataSettings) -> Iterator[Path]:
    """Detection set in COCO's layout: `things/`; every tenth image has a crowd."""
    counts = dict(train2017=settings.things_train, val2017=settings.things_val)
    for which, (split, count) in enumerate(counts.items()):
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number in range(1, count + 1):
            rng = _generator(settings, 2, which, number)
            height, width = (round(settings.thing_size * f) for f in rng.uniform(0.77, 1.23, 2))
            scene = draw_things(rng, height, width, crowd=number % 10 == 0)
            name = f'{number:012d}.jpg'
            path = root / 'things' / split / name
            _write(path, scene.image)
            images.append(dict(id=number, file_name=name, height=height, width=width))
            found = (annotation(instance) for instance in scene.instances)
            annotations += [dict(image_id=number, **content) for content in found if content]
            yield path
        target = root / 'things' / 'annotations' / f'instances_{split}.json'
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(document(images, annotations)))


def stamp(settings: DataSettings) -> dict[str, Any]:
    """What the data on disk depend on."""
    return dict(version=VERSION, **asdict(settings))


def is_current(root: Path, settings: DataSettings) -> bool:
    """Whether `root` already holds complete data of these settings."""
    try:
        return json.loads((root / STAMP).read_text()) == stamp(settings)
    except (OSError, ValueError):
        return False


def write_data(
    root: Path, settings: DataSettings, progress: Callable[[int, int], None] | None = None
) -> None:
    """Generate all three sets below `root`, replacing those that other settings left there.

    They are written beside `root` first and moved in place when complete, so that an interrupted
    run leaves no half data set. `progress(done, total)` is called after each image.
    """
    if root.exists() and any(root.iterdir()) and not (root / STAMP).exists():
        raise UserError(f'{root}: holds files that the demo did not write; choose another folder')
    partial = root.with_name(root.name + '.partial')
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    done = 0
    for writer in (write_images, write_streets, write_things):
        for _ in writer(partial, settings):
            done += 1
            if progress is not None:
                progress(done, settings.total)
    (partial / STAMP).write_text(json.dumps(stamp(settings), indent=1))
    shutil.rmtree(root, ignore_errors=True)
    os.replace(partial, root)
