"""A look at some images before the first step: does a folder hold what can be learnt from?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moca.images.files import evenly_spread
from moca.images.image_io import CorruptImage, open_image
from moca.images.inspection import Inspection, inspect
from moca.images.transforms import Pixels

LOOKED_AT = 64  # images [our choice: under a second, and 5 % of others among them are met]
# Label maps have one channel, or a palette, of few values [our choice: 64 holds ADE20K's maps of
# 150 classes, of which an image has about 10, and hardly any photograph in gray].
_FEW_VALUES = 64
_ONE_CHANNEL = ('1', 'L', 'P', 'I', 'I;16')


@dataclass(frozen=True)
class FirstLook:
    """What some images of a folder turned out to be.

    Attributes:
        faults: Of each image that was looked at, why it cannot be decoded, or None.
        notes: Lines of warning.
    """

    faults: dict[str, str | None]
    notes: list[str]


def look_at_some(
    root: str | Path, paths: Sequence[str], read: Callable[[int], bytes] | None = None
) -> FirstLook:
    """Decode images evenly spread over a list.

    Args:
        root: Folder of the paths.
        paths: At least one.
        read: How to read the image of a number, where they are no files of the folder; raises an
            OSError or a `CorruptImage` where it cannot.
    """
    faults: dict[str, str | None] = {}
    constant, labels = [], []
    for index in evenly_spread(len(paths), LOOKED_AT):
        path = paths[index]
        try:
            data = read(index) if read else Path(root, path).read_bytes()
            pixels = _decode_small(data)
        except OSError as error:
            faults[path] = f'cannot read the file: {error.strerror}'
            continue
        except CorruptImage as error:
            faults[path] = str(error)
            continue
        faults[path] = None
        about = inspect(data, decode=False)
        if _is_label_map(about, path, pixels):
            labels.append(path)
        elif (pixels == pixels[0, 0]).all():
            constant.append(path)
    of = f'of {len(faults)} images looked at'
    notes = []
    if labels:
        notes.append(
            f'{root}: {len(labels)} {of} look like label maps (one channel of few values, for '
            f'example {labels[0]}), and are learnt from like photographs. Move them out of the '
            'folder, or give the folder of the photographs alone.'
        )
    if constant:
        notes.append(
            f'{root}: {len(constant)} {of} are of a single color, for example {constant[0]}: there '
            'is nothing to learn from those. Check how they were written.'
        )
    return FirstLook(faults, notes)


def _decode_small(data: bytes) -> Pixels:
    image = open_image(data)
    return image.decode(8 if image.reducible and min(image.height, image.width) > 64 else 1)


def _is_label_map(about: Inspection, path: str, pixels: Pixels) -> bool:
    """Whether an image has one channel and few values; a JPEG's are those of its compression."""
    if about.mode not in _ONE_CHANNEL or path.lower().endswith(('.jpg', '.jpeg')):
        return False
    colors = pixels.reshape(-1, 3).astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
    return 1 < len(np.unique(colors)) <= _FEW_VALUES or _nearly_black(pixels)


def _nearly_black(pixels: Pixels) -> bool:
    """Whether it is the label map of an image with one class only."""
    return bool(0 < pixels.max() < 16 and (pixels == pixels[0, 0]).all())
