"""Pictures of any folder, as they come: no labels, any sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torchvision.datasets.folder import IMG_EXTENSIONS

from moca.errors import UserError


def list_pictures(folder: Path, field: str) -> list[Path]:
    """All pictures in a folder and in those below it, sorted.

    Args:
        folder: Where to look.
        field: What named the folder, for messages.

    Raises:
        UserError: There is no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise UserError(f'{field} {folder}: no such folder. Give a folder of pictures.')
    paths = sorted(
        path
        for path in folder.rglob('*')
        if path.suffix.lower() in IMG_EXTENSIONS and not path.name.startswith('.')
    )
    if not paths:
        raise UserError(
            f'{field} {folder}: no picture in there (looked for {folder.absolute()}). Give a '
            'folder of pictures.'
        )
    return paths


def choose(count: int, shown: int) -> list[int]:
    """Indices of `shown` pictures spread evenly over `count`."""
    return np.linspace(0, count - 1, min(shown, count)).round().astype(int).tolist()


def some_pictures(folder: Path, count: int) -> list[Path]:
    """`count` pictures, or all if there are fewer, evenly spaced over the sorted list.

    Raises:
        UserError: As `list_pictures`, for ``--pictures``.
    """
    paths = list_pictures(folder, '--pictures')
    return [paths[index] for index in choose(len(paths), count)]
