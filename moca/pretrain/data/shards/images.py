"""The images of tar shards, read one by one in any order."""

from __future__ import annotations

import io
import logging
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from hashlib import sha256
from itertools import pairwise
from typing import Any, overload

import numpy as np
from mmengine.logging import print_log
from numpy.typing import NDArray

from moca.engine.once import once_for_all
from moca.errors import UserError
from moca.images.image_io import CorruptImage
from moca.images.listing import USUAL_ENDINGS
from moca.pretrain.data.shards.index_cache import find_indexes
from moca.pretrain.data.shards.manifest import MANIFEST, missing_shards
from moca.pretrain.data.shards.storage import RangeReader, ShardFile, find_shards, is_local
from moca.pretrain.data.shards.tar_index import MEMBER, ShardIndex

WINDOW = 1 << 17
"""Images among which one is shuffled at a time [our choice: a tenth of ImageNet, 14 GB, which a
node's page cache holds]."""

_AT_ONCE = 64 << 20  # bytes that a worker asks a URL for at a time [our choice]
_STALE = 'its shard is another one than when its index was made; remove that and start again'


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
        found = once_for_all(lambda: _gather(root, limit, pattern))
        self.urls, self.members, self._ends, self.digest, self._about = found
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
        for group in self._groups(indices):
            rows = [self.members[index].item() for index in group]
            ranges = [
                (self._url(index), start, start + header + size)
                for index, (start, size, header) in zip(group, rows, strict=True)
            ]
            found = self._reader.read(ranges)
            for data, (_, size, header) in zip(found, rows, strict=True):
                yield _content(data, size, header)

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

    def _groups(self, indices: Sequence[int]) -> Iterator[Sequence[int]]:
        """Those that are read at the same time: of a disk one by one."""
        if is_local(self.urls[0]):
            yield from ([index] for index in indices)
            return
        ends = np.cumsum([self.members[index]['size'] for index in indices])
        cuts = np.flatnonzero(np.diff(ends // _AT_ONCE)) + 1
        for first, last in pairwise([0, *cuts.tolist(), len(indices)]):
            yield indices[first:last]

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


def _content(data: bytes | OSError, size: int, header: int) -> bytes | CorruptImage:
    """An image out of what was read of a tar, if it is that image's still."""
    if isinstance(data, OSError):
        return CorruptImage(f'cannot read its shard: {data.strerror}')
    if len(data) < header + size:
        return CorruptImage('its shard ends before it does')
    try:
        block = data[header - tarfile.BLOCKSIZE : header]
        if tarfile.TarInfo.frombuf(block, 'utf-8', 'surrogateescape').size != size:
            return CorruptImage(_STALE)
    except tarfile.TarError:
        return CorruptImage(_STALE)
    return data[header:]


def _gather(
    root: str, limit: int | None, pattern: str | None
) -> tuple[list[str], NDArray[Any], NDArray[np.int64], str, str]:
    """URLs, members, the end of each shard among them, their digest, and a line about them."""
    urls = find_shards(root)
    if lacking := missing_shards(urls) if urls[0].rpartition('/')[0] == root.rstrip('/') else []:
        print_log(
            f'{root}: {len(lacking):,} shards that its {MANIFEST} names are not there, such as '
            f'{lacking[0]}; the {len(urls):,} others are used.',
            'current',
            level=logging.WARNING,
        )
    found = find_indexes(urls)
    tables = [_chosen(file, index, pattern) for file, index in found]
    ends = np.cumsum([len(table) for table in tables])
    table = np.concatenate(tables) if len(ends) else np.zeros(0, MEMBER)
    about = _describe(root, found, len(table), pattern)
    if len(table) < 2:
        raise UserError(
            f'data_root {root} holds {"one image" if len(table) else "no image"} ({about}). '
            'Pre-training needs at least 2; give the shards that hold the images.'
        )
    if limit is not None and limit < len(table):
        kept = np.arange(limit) * len(table) // limit
        table, ends = table[kept], np.searchsorted(kept, ends)
    digest = sha256(table.tobytes() + ends.tobytes()).hexdigest()
    return [file.url for file, _ in found], table, ends, digest, about


def _chosen(file: ShardFile, index: ShardIndex, pattern: str | None) -> NDArray[Any]:
    if pattern is not None:
        kept = [fnmatchcase(name, pattern) for name in index.names]
        return index.members[np.array(kept, bool)]
    if index.doubled:
        one, other = index.doubled
        raise UserError(
            f'{file.url}: {one} and {other} are two images under one key. Say which to learn from '
            "by a pattern: --cfg-options train_dataloader.dataset.members='*.jpg' (or '*' for all)."
        )
    return index.members


def _describe(
    root: str, found: Sequence[tuple[ShardFile, ShardIndex]], images: int, pattern: str | None
) -> str:
    left_out: Counter[str] = Counter()
    for file, index in found:
        left_out.update(index.left_out)
        if index.damage:
            print_log(
                f'{file.url}: {index.damage}. The {len(index.members):,} images before that are '
                'used; fetch or make the shard again.',
                'current',
                level=logging.WARNING,
            )
    if pattern is not None:
        left_out[f'images that are no {pattern}'] = sum(len(i.members) for _, i in found) - images
    counts = ', '.join(f'{count:,} {kind}' for kind, count in left_out.most_common() if count)
    text = f'{root}: {images:,} images in {len(found):,} shards' + f'; left out: {counts}' * bool(
        counts
    )
    return text if images else f'{text}; looked for {USUAL_ENDINGS}'
