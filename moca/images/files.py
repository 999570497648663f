"""Folders and files that a data set's config names: missing, empty and broken ones are errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log

from moca.errors import UserError
from moca.images.inspection import quick_fault
from moca.images.listing import USUAL_ENDINGS, Listing, ending_of, list_folder


def broken_images(paths: Iterable[Path]) -> list[tuple[Path, str]]:
    """Return the (path, reason) of images that are damaged or no images, in order.

    As far as `image_fault` sees it.
    """
    with ThreadPoolExecutor(max_workers=8) as pool:
        paths = list(paths)
        reasons = pool.map(image_fault, paths, chunksize=64)
        return [(path, reason) for path, reason in zip(paths, reasons, strict=True) if reason]


image_fault = quick_fault


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
    """All images in a folder and in those below it, sorted; their number goes to the log.

    Args:
        folder: Where to look.
        field: What named the folder, for messages.

    Raises:
        UserError: There is no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise UserError(f'{field} {folder}: no such folder. Give a folder of images.')
    listing = list_folder(folder)
    if not listing.paths:
        raise UserError(
            f'{field} {folder}: no image in there ({sought(listing)}). Give a folder of images.'
        )
    print_log(f'{field} {listing.describe()}', 'current')
    return [folder / path for path in listing.paths]


def sought(listing: Listing) -> str:
    """A clause for messages: what was looked for where, and what was there instead."""
    passed = listing.passed_over()
    where = f'{USUAL_ENDINGS}; looked for in {Path(listing.root).absolute()} and below'
    return f'{where}; {passed}' if passed else where


def unused_images(folder: Path, used: Iterable[Path], suffix: str) -> str:
    """Images of a folder that a data set does not take since their names end otherwise.

    Args:
        folder: In which and below which to look.
        used: The images that the data set takes.
        suffix: What their names end in.

    Returns:
        A line for the log, or nothing where all are used.

    Raises:
        UserError: Some have the data set's ending in another spelling (``.JPG``, ``.jpeg``).
    """
    taken = {str(path) for path in used}
    rest = [path for path in list_folder(folder).paths if str(folder / path) not in taken]
    if not rest:
        return ''
    counts = Counter('.' + path.rpartition('.')[2] for path in rest if ending_of(path))
    wanted = ending_of(suffix)
    same = {end: n for end, n in counts.items() if _spelled(end) == _spelled(wanted)}
    same.pop(suffix, None)  # of another name in front, such as Cityscapes' _leftImg8bit
    if same:
        raise UserError(
            f'{folder}: {_counted(same)} beside {len(taken):,} {suffix}, which alone are read '
            '(img_suffix). Give all files the same ending.'
        )
    return f'{folder}: {len(taken):,} images; left out: {_counted(counts)} (img_suffix {suffix!r})'


def _counted(counts: dict[str, int]) -> str:
    return ', '.join(f'{count:,} {ending}' for ending, count in sorted(counts.items()))


def _spelled(ending: str) -> str:
    """One spelling for an ending: .JPEG, .jpeg and .JPG are .jpg."""
    spellings = {'.jpeg': '.jpg', '.jpe': '.jpg', '.jfif': '.jpg', '.tiff': '.tif'}
    return spellings.get(ending.lower(), ending.lower())


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
