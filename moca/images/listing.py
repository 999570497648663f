"""Listing the images of a folder: fast, once for all parts of a run, and saying what is left out.

An image is told by its name's ending, in any case, or, where a name has none, by its first bytes.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import overload

import numpy as np
from PIL import Image

from moca.engine.once import once_for_all
from moca.images.image_io import FORMATS

ENDINGS = frozenset(
    ending for ending, name in Image.registered_extensions().items() if name in FORMATS
)
"""Of the files that are taken for images, in lower case."""

USUAL_ENDINGS = '.jpg, .png, .webp, .bmp, .tif, .gif, .avif, .ppm, .jp2 and their kin'
"""For messages; `ENDINGS` holds all of them."""

NO_ENDING = 'without an ending'
_PREFIX = 16  # bytes by which Pillow's plug-ins tell their format
# A folder that was changed so recently may be changed again without getting another time
# [our choice, seconds; the times of file systems are at most this coarse].
_COARSEST_TIME = 2.0


class PathList(Sequence[str]):
    """Many strings in one block of memory.

    A list of ImageNet's 1.28 million paths would be copied into every DataLoader worker piece by
    piece, since reading a Python string writes its reference count.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        # no path has a zero byte in it; one in front of each
        text = ''.join(f'\0{path}' for path in paths)
        self._block = text.encode('utf-8', 'surrogateescape')
        zeros = np.flatnonzero(np.frombuffer(self._block, np.uint8) == 0)
        self._ends = np.append(zeros, len(self._block))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __iter__(self) -> Iterator[str]:
        return iter(self._block.decode('utf-8', 'surrogateescape').split('\0')[1:])

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(f'{index} of {len(self)} paths')
        part = self._block[self._ends[index] + 1 : self._ends[index + 1]]
        return part.decode('utf-8', 'surrogateescape')


@dataclass(frozen=True)
class Listing:
    """What lies in a folder and in those below it.

    Attributes:
        root: The folder.
        paths: Of the images, from the folder, with '/', sorted.
        left_out: How many other files there are, by ending; and links that lead in circles, folders
            that may not be read.
        folders: Every folder, with its time of change in nanoseconds.
    """

    root: str
    paths: PathList
    left_out: Counter[str]
    folders: dict[str, int] = field(repr=False)

    def passed_over(self) -> str:
        """A clause for messages: ``left out: 40 .tif, 6 .txt``, most first; empty if none is."""
        if not self.left_out:
            return ''
        counts = ', '.join(f'{count:,} {kind}' for kind, count in self.left_out.most_common())
        return f'left out: {counts}'

    def describe(self) -> str:
        """A line for logs: how many images there are, and what is left out."""
        passed = self.passed_over()
        return f'{self.root}: {len(self.paths):,} images' + (f'; {passed}' if passed else '')


def list_folder(root: str | Path) -> Listing:
    """List the images of a folder and all below it.

    Hidden files and folders are left out. Links to folders are followed, as torchvision's
    ``ImageFolder`` does, but none into a folder that it lies in. What was listed before in this
    process is not read again while no folder has changed.
    """
    key = os.path.realpath(root)
    known = _known.get(key)
    if known is None or not _is_fresh(known):
        known = _search(key)
        newest = max(known.folders.values(), default=0)
        _known.pop(key, None)
        if time.time() - newest / 1e9 > _COARSEST_TIME:
            _known[key] = known
    return Listing(str(root), known.paths, known.left_out, known.folders)


def list_folder_once(root: str | Path) -> Listing:
    """As `list_folder`, but only the first process of a run reads the folder, for all of them.

    All processes have to call it.
    """
    return once_for_all(lambda: list_folder(root))


_known: dict[str, Listing] = {}


def _is_fresh(listing: Listing) -> bool:
    try:
        return all(os.stat(path).st_mtime_ns == then for path, then in listing.folders.items())
    except OSError:
        return False


def _search(root: str) -> Listing:
    paths: list[str] = []
    left_out: Counter[str] = Counter()
    folders: dict[str, int] = {}
    # a folder, its path from the root with a '/' behind it, and the folders that it lies in
    todo: list[tuple[str, str, frozenset[tuple[int, int]]]] = [(root, '', frozenset())]
    while todo:
        folder, prefix, above = todo.pop()
        status = os.stat(folder)
        here = (status.st_dev, status.st_ino)
        if here in above:
            left_out['links in circles'] += 1
            continue
        folders[folder] = status.st_mtime_ns
        try:
            entries = os.scandir(folder)
        except PermissionError:
            left_out['folders that may not be read'] += 1
            continue
        above = above | {here}
        with entries:
            for entry in entries:
                name = entry.name
                if name[0] == '.':
                    left_out['hidden'] += 1
                    continue
                try:
                    is_folder = entry.is_dir()
                except OSError:  # a link to itself
                    is_folder = False
                ending = '' if is_folder else ending_of(name)
                if is_folder:
                    todo.append((entry.path, f'{prefix}{name}/', above))
                elif ending in ENDINGS or (not ending and _is_image(entry.path)):
                    paths.append(prefix + name)
                else:
                    left_out[ending or NO_ENDING] += 1
    paths.sort()
    return Listing(root, PathList(paths), left_out, folders)


def ending_of(name: str) -> str:
    """The ending of a file's name in lower case, with its dot; empty if it has none."""
    stem, dot, ending = name.rpartition('.')
    return f'.{ending.lower()}' if dot and stem else ''


def _is_image(path: str) -> bool:
    """Whether a file starts like an image of `FORMATS`, as Pillow's plug-ins tell it."""
    try:
        if not os.path.isfile(path):  # a pipe would wait for somebody to write
            return False
        with open(path, 'rb') as file:
            prefix = file.read(_PREFIX)
    except OSError:
        return False
    return any(_accepts(name, prefix) for name in FORMATS)


def _accepts(name: str, prefix: bytes) -> bool:
    accept = Image.OPEN[name][1]
    try:  # the answer may be a text, of why not
        return accept is not None and accept(prefix.ljust(_PREFIX, b'\0')) is True
    except Exception:  # a plug-in may read more out of a prefix than there is
        return False
