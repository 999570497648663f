"""What goes into which tar shard: sizes, keys, classes and the cuts between shards."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tarfile import BLOCKSIZE
from typing import Any

import numpy as np
from PIL import Image

from moca.errors import UserError
from moca.images.image_io import FORMATS
from moca.images.listing import ending_of
from moca.pretrain.data.shards.parallel import in_threads

Watch = Callable[[Iterable[Any], int, str], Iterable[Any]]
"""Shows the progress of an iteration, of which the number of items and a title are given."""

_UNITS = {'': 1, 'B': 1, 'KB': 10**3, 'MB': 10**6, 'GB': 10**9}
_UNITS |= {'KIB': 2**10, 'MIB': 2**20, 'GIB': 2**30}
_THREADS = 16  # [our choice: waiting for a disk takes the time]
_AT_ONCE = 1000  # files that a thread looks at [our choice]
_SMALLEST = 1000  # bytes of a shard
_SEED = 0  # of the shuffle: a folder gives the same shards wherever they are written


@dataclass(frozen=True, slots=True)
class Member:
    """An image that is to be written.

    Attributes:
        path: From the folder.
        size: In bytes.
        key: Its name in the tar without `ending`.
        ending: With its dot.
        label: Number of its class; None without classes.
    """

    path: str
    size: int
    key: str
    ending: str
    label: int | None

    @property
    def blocks(self) -> int:
        """Of `BLOCKSIZE` that it takes in a tar: headers, image and label."""
        return 1 + -(-self.size // BLOCKSIZE) + (0 if self.label is None else 2)


@dataclass(frozen=True)
class Plan:
    """The shards of a folder.

    Attributes:
        shards: The members of each.
        classes: Names of the class folders, in the order of their numbers; empty without labels.
        renamed: How many keys had to become others than the paths.
    """

    shards: list[list[Member]]
    classes: list[str]
    renamed: int


def parse_size(text: str) -> int:
    """Bytes of ``512MB`` (10^6 each), ``1GiB`` (2^30) or a plain number.

    Raises:
        UserError: It is no size, or less than a kilobyte.
    """
    match = re.fullmatch(r'(\d+(?:\.\d+)?)\s*([A-Za-z]*)', text.strip())
    unit = _UNITS.get(match[2].upper()) if match else None
    size = int(float(match[1]) * unit) if match and unit else 0
    if size < _SMALLEST:
        raise UserError(
            f'--size {text}: give a number of bytes and its unit, such as 512MB or 1GiB, from 1KB '
            'up.'
        )
    return size


def plan_shards(root: Path, paths: Sequence[str], size: int, watch: Watch) -> Plan:
    """Shuffle the images of a folder and cut them into shards.

    Args:
        root: The folder.
        paths: Of its images, from it, sorted.
        size: Of a shard in bytes; a larger image has a shard of its own.
        watch: Shows progress.

    Raises:
        UserError: A file cannot be looked at.
    """
    parts = [paths[i : i + _AT_ONCE] for i in range(0, len(paths), _AT_ONCE)]
    found = in_threads(partial(_sizes, root), parts, _THREADS)
    sizes = [size for part in watch(found, len(parts), 'sizes') for size in part]
    folders = {path.rpartition('/')[0] for path in paths}
    labeled = len(folders) > 1 and all(folder and '/' not in folder for folder in folders)
    classes = sorted(folders) if labeled else []
    numbers = {name: number for number, name in enumerate(classes)}
    keys, renamed = _keys(root, paths)
    members = []
    for i in np.random.default_rng(_SEED).permutation(len(paths)).tolist():
        label = numbers.get(paths[i].rpartition('/')[0])
        members.append(Member(paths[i], sizes[i], keys[i][0], keys[i][1], label))
    return Plan(_cut(members, size), classes, renamed)


def digest_of(members: Sequence[Member]) -> str:
    """A text for what a shard is made of."""
    text = repr([(m.path, m.size, m.key, m.ending, m.label) for m in members])
    return hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()


def _sizes(root: Path, paths: Sequence[str]) -> list[int]:
    sizes = []
    for path in paths:
        try:
            sizes.append((root / path).stat().st_size)
        except OSError as error:
            raise UserError(f'{root / path}: {error.strerror}. Mend or remove it.') from error
    return sizes


def _keys(root: Path, paths: Sequence[str]) -> tuple[list[tuple[str, str]], int]:
    """(key, ending) of each, no key twice; a key has no dot in the name of its file."""
    keys: list[tuple[str, str]] = []
    used: set[str] = set()
    renamed = 0
    for path in paths:
        folder, slash, file = path.rpartition('/')
        length = len(ending_of(file))
        stem, ending = file[: len(file) - length], file[len(file) - length :]
        key = wanted = f'{folder}{slash}{stem.replace(".", "_")}'
        number = 1
        while key in used:
            number += 1
            key = f'{wanted}_{number}'
        used.add(key)
        renamed += key != f'{folder}{slash}{stem}'
        keys.append((key, ending or _ending_by_content(root / path)))
    return keys, renamed


def _ending_by_content(path: Path) -> str:
    with Image.open(path, formats=FORMATS) as image:
        return f'.{(image.format or "").lower()}'


def _cut(members: Sequence[Member], size: int) -> list[list[Member]]:
    parts: list[list[Member]] = [[]]
    filled = 0
    for member in members:
        if parts[-1] and filled + member.blocks * BLOCKSIZE > size:
            parts.append([])
            filled = 0
        parts[-1].append(member)
        filled += member.blocks * BLOCKSIZE
    return parts
