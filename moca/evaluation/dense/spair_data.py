"""SPair-71k: pairs of images of one class with keypoints in both."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log
from numpy.typing import NDArray

from moca.errors import UserError
from moca.images.files import require_files
from moca.images.image_io import read_pixels
from moca.images.inspection import inspect

LAYOUT = 'JPEGImages/<class>/*.jpg, ImageAnnotation/<class>/*.json, PairAnnotation/<split>/*.json'
"""Of the data set's folder, as its archive has it."""

VIEWPOINTS = (0, 1, 2)
"""How much the viewpoint differs within a pair: easy, medium, hard."""


@dataclass(frozen=True, eq=False)
class KeypointImage:
    """An image and its keypoints.

    Attributes:
        path: Of the image.
        size: Height and width in pixels.
        points: ``[K, 3]`` fp64: x, y in pixels and whether the keypoint is visible.
    """

    path: Path
    size: tuple[int, int]
    points: NDArray[np.float64]


@dataclass(frozen=True)
class KeypointPair:
    """Two images of one class.

    Attributes:
        name: As the pair's file says it.
        category: The class.
        viewpoint: One of `VIEWPOINTS`.
        source: Name of the first image.
        target: Name of the second one.
        box: ``[x1, y1, x2, y2]`` of the target's object.
        size: Width and height of the target.
    """

    name: str
    category: str
    viewpoint: int
    source: str
    target: str
    box: tuple[float, ...]
    size: tuple[int, ...]

    @property
    def threshold_scale(self) -> float:
        """See the function of this name."""
        return threshold_scale(self.box, self.size)


@dataclass(frozen=True)
class SPairData:
    """The pairs of a split, sorted by name, and their images by class and name."""

    pairs: tuple[KeypointPair, ...]
    images: dict[tuple[str, str], KeypointImage]

    @property
    def categories(self) -> tuple[str, ...]:
        """Names of the classes, sorted."""
        return tuple(sorted({pair.category for pair in self.pairs}))


def threshold_scale(box: Sequence[float], size: Sequence[int]) -> float:
    """The larger side of a box ``[x1, y1, x2, y2]`` over the larger side of its image."""
    return max(box[2] - box[0], box[3] - box[1]) / max(size[:2])


def keypoints_of(points: Mapping[str, Sequence[float] | None]) -> NDArray[np.float64]:
    """Keypoints of an annotation's ``kps`` as ``[K, 3]``, in the order of their numbers."""
    rows = [points[key] for key in sorted(points, key=int)]
    return np.array([(0, 0, 0) if row is None else (*row[:2], 1) for row in rows], np.float64)


def read_spair(root: str | Path, split: str, field: str) -> SPairData:
    """Read the annotations of a split.

    Keypoints outside their image count as not visible; how many is said in the log.

    Args:
        root: The folder ``SPair-71k``.
        split: ``test``, ``trn`` or ``val``.
        field: What to call the folder in messages.

    Raises:
        UserError: The folder is laid out otherwise, or a file is missing or wrong.
    """
    folder = Path(root) / 'PairAnnotation' / split
    files = sorted(folder.glob('*.json')) if folder.is_dir() else []
    if not files:
        raise UserError(
            f'{field}={root}: no pair of SPair-71k there (looked for {folder}/*.json). Give the '
            f'folder with {LAYOUT}.'
        )
    pairs = tuple(sorted((_read_pair(path) for path in files), key=lambda pair: pair.name))
    names = sorted({(p.category, name) for p in pairs for name in (p.source, p.target)})
    annotations = [Path(root) / 'ImageAnnotation' / c / f'{name}.json' for c, name in names]
    require_files(annotations, f'which {field} needs beside its pairs', ' Unpack all of SPair-71k.')
    paths = [Path(root) / 'JPEGImages' / c / f'{name}.jpg' for c, name in names]
    require_files(paths, f'which the annotations of {field} name', ' Unpack all of SPair-71k.')
    points = [_read_points(path) for path in annotations]
    sizes = [_size_of(path) for path in paths]
    outside = sum(_drop_outside(p, size) for p, size in zip(points, sizes, strict=True))
    if outside:
        print_log(f'{field}: {outside} keypoints outside their image are left out.', 'current')
    images = dict(zip(names, map(KeypointImage, paths, sizes, points), strict=True))
    _require_same_keypoints(pairs, images)
    return SPairData(pairs, images)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f'{path}: cannot be read ({error}). Unpack SPair-71k anew.') from error
    if not isinstance(content, dict):
        raise UserError(f'{path}: not an annotation of SPair-71k. Unpack it anew.')
    return content


def _read_pair(path: Path) -> KeypointPair:
    content = _read(path)
    try:
        name, category = str(content['filename']), str(content['category'])
        _, source, target = name.rpartition(':')[0].split('-')
        viewpoint = int(content['viewpoint_variation'])
        box = tuple(float(value) for value in content['trg_bndbox'])
        size = tuple(int(value) for value in content['trg_imsize'])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f'{path}: not a pair of SPair-71k ({type(error).__name__}: {error}). It needs filename '
            '("number-source-target:class"), category, viewpoint_variation, trg_bndbox, trg_imsize.'
        ) from error
    if viewpoint not in VIEWPOINTS:
        raise UserError(
            f'{path}: viewpoint_variation {viewpoint} is none of {VIEWPOINTS}. Repair it.'
        )
    right = len(box) == 4 and len(size) >= 2 and all(map(math.isfinite, box))
    if not right or min(box[2] - box[0], box[3] - box[1], *size[:2]) <= 0:
        raise UserError(f'{path}: trg_bndbox {box} of an image of {size} is no box. Repair it.')
    return KeypointPair(name, category, viewpoint, source, target, box, size)


def _read_points(path: Path) -> NDArray[np.float64]:
    content = _read(path)
    try:
        return keypoints_of(content['kps']).reshape(-1, 3)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f'{path}: not an annotation of SPair-71k ({type(error).__name__}: {error}). It needs '
            'kps (number: [x, y] or null).'
        ) from error


def _size_of(path: Path) -> tuple[int, int]:
    size = inspect(path, decode=False).size
    if not all(size):
        raise UserError(f'{path}: a broken image. Unpack SPair-71k anew.')
    return size


def _drop_outside(points: NDArray[np.float64], size: tuple[int, int]) -> int:
    """Make keypoints outside their image invisible; returns how many there are."""
    inside = ((points[:, :2] >= 0) & (points[:, :2] < size[::-1])).all(1)
    beyond = (points[:, 2] > 0) & ~inside
    points[beyond] = 0
    return int(beyond.sum())


def _require_same_keypoints(
    pairs: Sequence[KeypointPair], images: Mapping[tuple[str, str], KeypointImage]
) -> None:
    for pair in pairs:
        source, target = (images[pair.category, name] for name in (pair.source, pair.target))
        if source.points.shape != target.points.shape:
            raise UserError(
                f'{source.path} has {len(source.points)} keypoints, and {target.path}, of the same '
                f'pair {pair.name}, {len(target.points)}. Their annotations need the same numbers.'
            )


def read_image(image: KeypointImage) -> NDArray[np.uint8]:
    """Decode an image, RGB ``[H, W, 3]``.

    Raises:
        UserError: It cannot be decoded.
    """
    return read_pixels(image.path)
