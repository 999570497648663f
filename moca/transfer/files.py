"""Folders and files that a data set's config names: missing, empty and broken ones are errors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moca.errors import UserError
from moca.transfer.pictures import broken_pictures

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
    """Raise a `UserError` that names the first picture that is cut off or none."""
    broken = broken_pictures(paths)
    if broken:
        path, reason = broken[0]
        raise UserError(
            f'{path}: a broken picture ({reason}); {len(broken)} of {len(paths)} files. '
            'Fetch it again, or leave it out.'
        )
