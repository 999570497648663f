"""Folders and files that a data set's config names: missing, empty and broken ones are errors."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torchvision.datasets.folder import IMG_EXTENSIONS

from moca.errors import UserError
from moca.images.image_io import JPEG_END, PNG_END

# A file that was cut off lacks the end marker of its format. Some intact files have a few bytes
# behind it, so that its absence from the tail only means: look closer.
_END_MARKERS = {'.png': PNG_END, '.jpg': JPEG_END, '.jpeg': JPEG_END}
_TAIL = 4096  # bytes


def broken_images(paths: Iterable[Path]) -> list[tuple[Path, str]]:
    """Return the (path, reason) of images that are truncated or no images, in order.

    Reads the last bytes of each JPEG and PNG, about 20,000 files a second from a local disk, and
    decodes only those that look cut off. Other formats are not looked at.
    """
    with ThreadPoolExecutor(max_workers=8) as pool:
        paths = list(paths)
        reasons = pool.map(image_fault, paths, chunksize=64)
        return [(path, reason) for path, reason in zip(paths, reasons, strict=True) if reason]


def image_fault(path: Path) -> str | None:
    """Why an image file is truncated or no image, None if it looks whole."""
    marker = _END_MARKERS.get(path.suffix.lower())
    if marker is None:
        return None
    with open(path, 'rb') as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - _TAIL, 0))
        if marker in file.read():
            return None
    if size == 0:
        return 'the file is empty'
    try:
        with Image.open(path) as image:
            image.load()
    except (OSError, SyntaxError, ValueError) as error:
        return str(error)
    return None


SHOWN = 3  # files named in an error


def dataset_path(dataset: dict[str, Any], path: str) -> Path:
    """A path of a data set's config, below its ``data_root``."""
    return Path(dataset.get('data_root') or '') / path


def require_folder(dataset: dict[str, Any], key: str, field: str) -> Path:
    """Return the folder of ``data_prefix[key]``.

    Raises:
        UserError: if it does not exist or is empty.
    """
    folder = dataset_path(dataset, (dataset.get('data_prefix') or {}).get(key) or '')
    if not folder.is_dir():
        raise UserError(
            f'{folder}: no such folder ({field}.data_prefix.{key}). '
            'Give the folder that holds the data with --data-root.'
        )
    if not any(folder.iterdir()):
        raise UserError(f'{folder}: the folder is empty ({field}.data_prefix.{key}).')
    return folder


def require_files(paths: Sequence[Path], what: str, hint: str = '') -> None:
    """Raise a `UserError` that names the first files that are missing."""
    missing = [path for path in paths if not path.is_file()]
    if missing:
        names = ', '.join(map(str, missing[:SHOWN]))
        raise UserError(f'{len(missing)} of {len(paths)} files are missing, {what}: {names}.{hint}')


def require_whole(paths: Sequence[Path]) -> None:
    """Raise a `UserError` that names the first image that is cut off or none."""
    broken = broken_images(paths)
    if broken:
        path, reason = broken[0]
        raise UserError(
            f'{path}: a broken image ({reason}); {len(broken)} of {len(paths)} files. '
            'Fetch it again, or leave it out.'
        )


def list_images(folder: Path, field: str) -> list[Path]:
    """All images in a folder and in those below it, sorted.

    Args:
        folder: Where to look.
        field: What named the folder, for messages.

    Raises:
        UserError: There is no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise UserError(f'{field} {folder}: no such folder. Give a folder of images.')
    paths = sorted(
        path
        for path in folder.rglob('*')
        if path.suffix.lower() in IMG_EXTENSIONS and not path.name.startswith('.')
    )
    if not paths:
        raise UserError(
            f'{field} {folder}: no image in there (looked for {folder.absolute()}). Give a '
            'folder of images.'
        )
    return paths


def evenly_spread(count: int, chosen: int) -> list[int]:
    """Return the indices of `chosen` of `count` things, evenly spread, in order."""
    return np.linspace(0, count - 1, min(chosen, count)).round().astype(int).tolist()


def some_images(folder: Path, count: int) -> list[Path]:
    """`count` images, or all if there are fewer, evenly spaced over the sorted list.

    Raises:
        UserError: As `list_images`, for ``--images``.
    """
    paths = list_images(folder, '--images')
    return [paths[index] for index in evenly_spread(len(paths), count)]
