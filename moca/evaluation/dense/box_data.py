"""Images with the boxes of their objects: Pascal VOC and COCO, as LOST reads them."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from mmengine.logging import print_log
from numpy.typing import NDArray

from moca.errors import UserError
from moca.images.files import require_files

VOC_LAYOUT = 'JPEGImages/*.jpg, Annotations/*.xml and ImageSets/Main/<split>.txt'
"""Of a year's folder, such as ``VOCdevkit/VOC2007``."""


@dataclass(frozen=True)
class BoxedImage:
    """An image.

    Attributes:
        path: Of its file.
        boxes: ``[N, 4]`` fp64 (x1, y1, x2, y2), counted from 0, right and lower borders excluded.
    """

    path: Path
    boxes: NDArray[np.float64]


def read_voc(root: str | Path, split: str, field: str) -> list[BoxedImage]:
    """List the images of a split of Pascal VOC; difficult and truncated objects count as well.

    Boxes are ``(xmin - 1, ymin - 1, xmax, ymax)`` of the files, which count pixels from 1.

    Args:
        root: Of a year, such as ``VOCdevkit/VOC2007``.
        split: Of ``ImageSets/Main``, such as ``trainval``.
        field: What to call the folder in messages.

    Raises:
        UserError: The folder is laid out otherwise, or a file is missing or wrong.
    """
    folder = Path(root)
    listed = folder / 'ImageSets' / 'Main' / f'{split}.txt'
    try:
        names = [line.split()[0] for line in listed.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f'{field}={root}: no list of images there (looked for {listed}). Give the folder of a '
            f'year with {VOC_LAYOUT}.'
        ) from error
    if not names:
        raise UserError(f'{listed}: the list of images is empty. Unpack VOC anew.')
    images = [folder / 'JPEGImages' / f'{name}.jpg' for name in names]
    annotations = [folder / 'Annotations' / f'{name}.xml' for name in names]
    require_files([*images, *annotations], f'which {listed} names', ' Unpack all of VOC.')
    boxes = map(_voc_boxes, annotations)
    return _with_objects([BoxedImage(*pair) for pair in zip(images, boxes, strict=True)], field)


def _voc_boxes(path: Path) -> NDArray[np.float64]:
    try:
        rows = [
            _finite(
                found.findtext(f'bndbox/{side}', '') for side in ('xmin', 'ymin', 'xmax', 'ymax')
            )
            for found in ElementTree.parse(path).getroot().findall('object')
        ]
    except (OSError, ElementTree.ParseError, ValueError) as error:
        raise UserError(
            f'{path}: not an annotation of Pascal VOC ({error}). It needs xmin, ymin, xmax and '
            'ymax of every object. Unpack VOC anew.'
        ) from error
    return np.array(rows, np.float64).reshape(-1, 4) - (1, 1, 0, 0)


def read_coco(
    annotations: str | Path, images: str | Path, names: str | Path | None, field: str
) -> list[BoxedImage]:
    """List the images of a file of COCO; crowds are dropped, and corners rounded.

    Args:
        annotations: The file.
        images: The folder of the images.
        names: A text file with the images that count, a line each; None for all with objects.
            Folders before the names do not matter.
        field: What to call the data in messages.

    Raises:
        UserError: A file is missing or wrong, or an image is not among the annotations.
    """
    content = _coco_content(Path(annotations), field)
    by_image: dict[Any, list[list[float]]] = defaultdict(list)
    found: dict[str, list[list[float]]] = {}
    row: Any = None
    try:
        for row in content['annotations']:
            if not _object(row).get('iscrowd'):
                left, top, width, height = _finite(row['bbox'])
                by_image[row['image_id']].append([left, top, left + width, top + height])
        for row in content['images']:
            if not isinstance(_object(row)['file_name'], str):
                raise TypeError('file_name is no text')
            found[row['file_name']] = by_image[row['id']]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f'{annotations}: an annotation has no box, or an image no name or number '
            f'({type(error).__name__}: {error}; in {row!r:.60}). Fetch the file again.'
        ) from error
    if names is not None:
        found = {name: found[name] for name in _listed_names(Path(names), found, annotations)}
    paths = [Path(images) / name for name in found]
    require_files(paths, f'which {annotations} names', f' Give {field} the folder of the images.')
    boxes = [np.array(rows, np.float64).round().reshape(-1, 4) for rows in found.values()]
    pairs = zip(paths, boxes, strict=True)
    return _with_objects([BoxedImage(path, rows) for path, rows in pairs], field)


def _object(row: Any) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise TypeError('no object')
    return row


def _finite(values: Iterable[Any]) -> list[float]:
    """Numbers, none of which is NaN or infinite: a box of them would count and never be found."""
    numbers = [float(value) for value in values]
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f'a box of {numbers}')
    return numbers


def _coco_content(path: Path, field: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(
            f'{field}: cannot read annotations of COCO (looked for {path}: {error}). Give the '
            'folder with annotations/ and the images.'
        ) from error
    if not isinstance(content, dict) or not all(
        isinstance(content.get(name), list) for name in ('images', 'annotations')
    ):
        raise UserError(
            f'{path}: not a file of COCO: it has no lists of images and annotations. Fetch it.'
        )
    return content


def _listed_names(path: Path, known: dict[str, list[list[float]]], where: str | Path) -> list[str]:
    try:
        lines = path.read_text().split()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f'{path}: no list of images ({error}). LOST has one of 19,817 names: '
            'datasets/coco_20k_filenames.txt of its repository.'
        ) from error
    names = [Path(line).name for line in lines]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise UserError(
            f'{path}: {len(unknown)} of {len(names)} names are not in {where}, such as '
            f'{unknown[0] if unknown else "none"}. Give the list that belongs to it.'
        )
    return names


def _with_objects(images: list[BoxedImage], field: str) -> list[BoxedImage]:
    """Leave out images without objects, which is said."""
    kept = [image for image in images if len(image.boxes)]
    if not kept:
        raise UserError(f'{field}: none of {len(images)} images has an object. Give others.')
    if len(kept) < len(images):
        print_log(
            f'{field}: {len(images) - len(kept)} images without objects do not count.', 'current'
        )
    return kept
