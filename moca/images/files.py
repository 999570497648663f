"""Folders and files that a data set's config names: missing, empty and broken ones are errors."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log
from PIL import Image

from moca.errors import UserError
from moca.images.inspection import TURNED_REMEDY, Inspection, inspect, quick_fault
from moca.images.listing import NO_ENDING, USUAL_ENDINGS, Listing, ending_of, list_folder


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


def require_sizes(paths: Sequence[Path], sizes: Sequence[tuple[int, int]]) -> None:
    """Compare the headers of images with the sizes (height, width) that their annotations name.

    How many images EXIF says to turn goes to the log.

    Raises:
        UserError: One is of another size; says how many are.
    """
    found = _headers(paths)
    wrong = [
        f'{path}: {about.width} x {about.height} pixels, but its annotations are of {width} x '
        f'{height}{about.size_note(height, width) or ". Give the image that was annotated"}.'
        for path, about, (height, width) in zip(paths, found, sizes, strict=True)
        if about.width and (about.height, about.width) != (height, width)
    ]
    if wrong:
        raise UserError(f'{wrong[0]} So {len(wrong)} of {len(paths)} images.')
    _log_turned(paths, found)


def log_turned(paths: Sequence[Path]) -> None:
    """Say how many images EXIF says to turn, since that is ignored; reads their headers."""
    _log_turned(paths, _headers(paths))


def _headers(paths: Sequence[Path]) -> list[Inspection]:
    with ThreadPoolExecutor(max_workers=8) as pool:
        return list(pool.map(lambda path: inspect(path, decode=False), paths, chunksize=64))


def _log_turned(paths: Sequence[Path], found: Sequence[Inspection]) -> None:
    turned = [path for path, about in zip(paths, found, strict=True) if about.turned]
    if turned:
        print_log(
            f'{len(turned):,} of {len(paths):,} images, such as {turned[0]}, have EXIF data that '
            f'say to turn them. {TURNED_REMEDY}.',
            'current',
            level=logging.WARNING,
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


def unused_images(
    listing: Listing, used: Iterable[Path], suffix: str | None = None, labels: Iterable[Path] = ()
) -> str:
    """What lies in a data set's folder and is not used, for the log.

    Args:
        listing: Of the folder.
        used: The images that the data set takes.
        suffix: What their names have to end in (mmseg's ``img_suffix``); None where a file lists
            them.
        labels: Label maps that are used; they may lie in the same folder.

    Returns:
        A line, or nothing where all is used.

    Raises:
        UserError: Some images have the data set's ending in another spelling (``.JPG``, ``.jpeg``)
            and would not be found.
    """
    folder = listing.root
    above = f'{folder}/'
    taken = {str(path).removeprefix(above) for path in used}
    known = taken | {str(path).removeprefix(above) for path in labels}
    rest = [path for path in listing.paths if path not in known]
    counts = Counter('.' + path.rpartition('.')[2] for path in rest if ending_of(path))
    if suffix is not None:
        wanted = '.' + suffix.rpartition('.')[2]
        same = {end: n for end, n in counts.items() if end != wanted and _same_kind(end, wanted)}
        if same:
            raise UserError(
                f'{folder}: {_counted(same)} beside {len(taken):,} {suffix}, which alone are read '
                '(img_suffix). Give all files the same ending.'
            )
    counts[NO_ENDING] = len(rest) - counts.total()
    counts.update(listing.left_out)
    if not counts.total():
        return ''
    why = 'not listed' if suffix is None else f'img_suffix is {suffix!r}'
    return f'{folder}: {len(taken):,} images; left out ({why}): {_counted(counts)}'


def require_pairs_taken(
    listing: Listing, used: Iterable[Path], suffix: str, partners: Path, ending: str
) -> None:
    """Refuse to lose images for their ending alone: those whose label map is there.

    A copy of an image that is taken, under the same name with another ending, is not missed.

    Args:
        listing: Of the folder.
        used: The images that are taken.
        suffix: What their names have to end in (mmseg's ``img_suffix``).
        partners: The folder of label maps, laid out alike.
        ending: What the names of those end in.

    Raises:
        UserError: There are such images.
    """
    folder = Path(listing.root)
    wanted = '.' + suffix.rpartition('.')[2]
    before = suffix.removesuffix(wanted)  # '_leftImg8bit' of Cityscapes
    taken = {os.path.splitext(path)[0] for path in used}
    lost = []
    for path in listing.paths:
        stem, kind = os.path.splitext(path)
        if not stem.endswith(before) or kind == wanted or os.path.join(folder, stem) in taken:
            continue
        if partners == folder and path.endswith(ending):
            continue  # a label map itself, whose image is missing
        if (partners / f'{stem.removesuffix(before)}{ending}').is_file():
            lost.append(path)
    if lost:
        counts = Counter(os.path.splitext(path)[1] for path in lost)
        raise UserError(
            f'{folder}: {_counted(counts)} with label maps, such as {lost[0]}, are not '
            f'read, since img_suffix is {suffix!r}. Make each ending a part of a ConcatDataset '
            '(docs/data.md), or list the images that you want in ann_file.'
        )


def _counted(counts: Mapping[str, int]) -> str:
    return ', '.join(f'{count:,} {ending}' for ending, count in sorted(counts.items()) if count)


def _same_kind(one: str, other: str) -> bool:
    """Whether two endings are spellings of one: .JPG and .jpeg of .jpg."""
    kinds = Image.registered_extensions()
    return kinds.get(one.lower(), one.lower()) == kinds.get(other.lower(), other.lower())


def evenly_spread(count: int, chosen: int) -> list[int]:
    """Return the indices of `chosen` of `count` things, evenly spread, in order."""
    return np.linspace(0, count - 1, min(chosen, count)).round().astype(int).tolist()


def some_images(folder: Path, count: int, option: str = '--images') -> list[Path]:
    """`count` images, or all if there are fewer, evenly spaced over the sorted list.

    Raises:
        UserError: As `list_images`, for `option`.
    """
    paths = list_images(folder, option)
    return [paths[index] for index in evenly_spread(len(paths), count)]
