"""The images of tar shards, read one by one in any order."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import overload

import numpy as np
from numpy.typing import NDArray

from moca.engine.once import once_for_all
from moca.images.image_io import CorruptImage
from moca.pretrain.data.shards.index_cache import INDEX, cache_folder
from moca.pretrain.data.shards.member_table import gather_members
from moca.pretrain.data.shards.storage import (
    RangeReader,
    is_local,
    reason,
)

WINDOW = 1 << 17
"""Images among which one is shuffled at a time [our choice: a tenth of ImageNet, 14 GB, which a
node's page cache holds]."""

_BLOCK = tarfile.BLOCKSIZE
_AT_ONCE = 64 << 20  # bytes that a worker asks a URL for at a time [our choice]


class ShardImages:
    """Images in tars that lie on a disk or behind a URL.

    Nothing is unpacked and no member is listed but in the index that each tar has
    (:mod:`.tar_index`); in memory an image takes 20 bytes. All processes have to make it, of
    which the first looks for all.

    Args:
        root: As :func:`.storage.find_shards` takes it.
        limit: Use at most this many images, evenly spaced through them.
        pattern: Of the members that are images, such as ``*.jpg``; None takes every one with an
            image's ending, of which each key may have one.
        window: Images among which one is shuffled at a time, in whole shards.

    Attributes:
        members: Of `MEMBER`, ``[N]``, shard after shard.
        paths: Of each image ``SHARD.tar/MEMBER``, from the folder of all shards; read when asked.
        digest: A text for which images lie where.

    Raises:
        UserError: Shards are missing, unreadable, or have no image; a key has two.
    """

    def __init__(
        self,
        root: str,
        limit: int | None = None,
        pattern: str | None = None,
        window: int = WINDOW,
    ) -> None:
        self.root, self.window = root, window
        table = once_for_all(lambda: gather_members(root, limit, pattern))
        self.urls, self.members, self._ends = table.urls, table.members, table.ends
        self.digest, self._about = table.digest, table.about
        self._reader = RangeReader()
        folders = {url.rpartition('/')[0] for url in self.urls}
        self._above = f'{folders.pop()}/' if len(folders) == 1 else ''
        self.paths = _Names(self)

    def __len__(self) -> int:
        return len(self.members)

    def describe(self) -> str:
        """A line for logs: how many images there are, and what is left out."""
        return self._about

    def path(self, index: int) -> str:
        """``SHARD.tar/MEMBER`` of an image, or where it begins if its shard cannot be read."""
        start, _, header = self.members[index].tolist()
        url = self._url(index)
        (data,) = self._reader.read([(url, start, start + header)])
        return f'{url}/{_name(data) or f"(member at byte {start:,})"}'

    def read(self, index: int) -> bytes:
        """The bytes of an image.

        Raises:
            CorruptImage: They cannot be read.
        """
        (data,) = self.read_many([index])
        if isinstance(data, CorruptImage):
            raise data
        return data

    def read_many(self, indices: Sequence[int]) -> Iterator[bytes | CorruptImage]:
        """Yield the bytes of several images, or why they cannot be read.

        Those behind a URL are asked for at the same time, `_AT_ONCE` bytes of them.
        """
        rows = ((self._url(index), *self.members[index].item()) for index in indices)
        # where the image's last header begins, and its bytes
        places = [(url, start + header - _BLOCK, size) for url, start, size, header in rows]
        if is_local(self.urls[0]):
            for url, start, size in places:  # which needs no copy
                middle = start + _BLOCK
                parts = [(url, start, middle), (url, middle, middle + size)]
                header, image = self._reader.read(parts)
                yield _content(header, image, size)
            return
        for group in _groups(places):
            ranges = [(url, start, start + _BLOCK + size) for url, start, size in group]
            for data, (_, _, size) in zip(self._reader.read(ranges), group, strict=True):
                if isinstance(data, OSError):
                    yield _content(data, data, size)
                else:
                    yield _content(data[:_BLOCK], data[_BLOCK:], size)

    def shuffled(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """An order of all images that stays within a few shards at a time, ``[N]``.

        Shards are shuffled, cut into windows of about `window` images, and the images of each
        window are shuffled. With one window it is a permutation as any other.
        """
        windows = max(1, len(self) // self.window)
        if windows == 1:
            return rng.permutation(len(self))
        starts = np.concatenate(([0], self._ends[:-1]))
        counts = self._ends - starts
        shards = rng.permutation(len(counts))
        ends = np.cumsum(counts[shards])
        # of the window in which a shard's middle lies
        window = ((ends - counts[shards] / 2) * windows / len(self)).astype(np.int64)
        parts = []
        for number in range(windows):
            inside = [
                np.arange(starts[shard], self._ends[shard]) for shard in shards[window == number]
            ]
            if inside:
                parts.append(rng.permutation(np.concatenate(inside)))
        return np.concatenate(parts)

    def relative(self, index: int) -> str:
        """As `path`, from the folder that all shards lie in."""
        return self.path(index).removeprefix(self._above)

    def _url(self, index: int) -> str:
        return self.urls[int(np.searchsorted(self._ends, index, side='right'))]


class _Names(Sequence[str]):
    """Names of images, which are read when they are asked for."""

    def __init__(self, images: ShardImages) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(f'{index} of {len(self)} images')
        return self._images.relative(index)


def _name(headers: bytes | OSError) -> str:
    """The name that a member's headers say; nothing if they say none."""
    if isinstance(headers, OSError):
        return ''
    try:
        member = tarfile.TarFile(fileobj=io.BytesIO(headers)).next()
    except tarfile.TarError:
        return ''
    return member.name if member else ''


def _groups(places: Sequence[tuple[str, int, int]]) -> Iterator[Sequence[tuple[str, int, int]]]:
    """Those that are asked for at the same time."""
    ends = np.cumsum([size for _, _, size in places])
    cuts = np.flatnonzero(np.diff(ends // _AT_ONCE)) + 1
    for first, last in pairwise([0, *cuts.tolist(), len(places)]):
        yield places[first:last]


def _content(header: bytes | OSError, data: bytes | OSError, size: int) -> bytes | CorruptImage:
    """What was read of an image, if that is the image which was there when it was indexed."""
    if isinstance(header, OSError):
        return CorruptImage(f'cannot read its shard: {reason(header)}')
    if isinstance(data, OSError):
        return CorruptImage(f'cannot read its shard: {reason(data)}')
    if len(data) < size or len(header) < _BLOCK:
        return CorruptImage('its shard ends before it does')
    try:
        found = tarfile.TarInfo.frombuf(header, 'utf-8', 'surrogateescape').size
    except tarfile.TarError:
        found = None
    if found == size:
        return data
    return CorruptImage(
        f'its shard is another one than when its index was made; remove SHARD{INDEX} beside it or, '
        f'where none is, those in {cache_folder()}, and start again'
    )
