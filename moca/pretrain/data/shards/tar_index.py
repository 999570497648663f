"""Where the images of a tar lie.

By its index single members are read in any order, without a pass over the tar and without a listing
of millions of files. Names follow the layout of WebDataset, in which the files of one key (the name
up to its first dot) belong together.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from moca.images.listing import ENDINGS, NO_ENDING, PathList, ending_of
from moca.pretrain.data.shards.storage import reason

MEMBER = np.dtype([('start', '<i8'), ('size', '<i8'), ('header', '<u4')])
"""Of an image: where its first header begins, its bytes, and the bytes of its headers."""

_VERSION = 1


@dataclass(frozen=True)
class ShardIndex:
    """The images of a tar.

    Attributes:
        members: Of `MEMBER`, ``[N]``, in the order of the tar.
        names: Of the members.
        size: Of the tar in bytes.
        left_out: How many other members there are, by ending, and keys without an image.
        doubled: Two images of one key; empty if each key has one.
        damage: Why the tar could not be read to its end; empty if it could.
        sha256: Of the whole tar; empty where nobody has computed it.
        plan: What it was written from, see :mod:`.writer`; empty for tars of others.
    """

    members: NDArray[Any]
    names: PathList
    size: int
    left_out: dict[str, int] = field(default_factory=dict)
    doubled: list[str] = field(default_factory=list)
    damage: str = ''
    sha256: str = ''
    plan: str = ''

    def to_bytes(self) -> bytes:
        """As a file, numpy's ``.npz``."""
        about = {key: value for key, value in vars(self).items() if key not in ('members', 'names')}
        text = '\0'.join(self.names).encode('utf-8', 'surrogateescape')
        file = io.BytesIO()
        np.savez_compressed(
            file,
            members=self.members,
            names=np.frombuffer(text, np.uint8),
            about=np.frombuffer(json.dumps({**about, 'version': _VERSION}).encode(), np.uint8),
        )
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> ShardIndex | None:
        """Read a file; None if it is damaged or of another version."""
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as file:
                about = json.loads(file['about'].tobytes())
                members, text = file['members'], file['names'].tobytes()
            if about.pop('version') != _VERSION or members.dtype != MEMBER:
                return None
            names = text.decode('utf-8', 'surrogateescape').split('\0') if len(members) else []
            return cls(members, PathList(names), **about)
        except Exception:  # of zipfile, zlib, json, numpy: all say that it is to be made again
            return None


def index_tar(file: BinaryIO, size: int) -> ShardIndex:
    """Look for the images of a tar, from header to header.

    Args:
        file: The tar, at its beginning.
        size: Of it in bytes.

    Returns:
        Its index; where the tar is cut off or damaged, of what is whole before that.
    """
    rows: list[tuple[int, int, int]] = []
    names: list[str] = []
    left_out: Counter[str] = Counter()
    keys: defaultdict[str, list[str]] = defaultdict(list)
    damage, end = '', 0
    try:
        for info in _members(file):
            end = info.offset_data + info.size
            if end > size:
                damage = f'it ends within {info.name}'
                break
            path = info.name.rpartition('/')[2]
            ending = ending_of(path)
            if info.isdir():
                continue
            of_key = keys[_key(info.name)]
            if path.startswith('.'):
                left_out['hidden'] += 1
            elif not info.isreg() or info.issparse():
                left_out['links and the like'] += 1
            elif ending in ENDINGS:
                rows.append((info.offset, info.size, info.offset_data - info.offset))
                names.append(info.name)
                of_key.append(info.name)
            else:
                left_out[ending or NO_ENDING] += 1
    except (tarfile.TarError, EOFError) as error:
        damage = f'no tar from byte {end:,} on ({reason(error)})'
    damage = damage or _end_of(file, end, size)
    left_out['keys without an image'] = sum(not images for images in keys.values())
    doubled = next((images[:2] for images in keys.values() if len(images) > 1), [])
    members = np.array(rows, MEMBER)
    return ShardIndex(members, PathList(names), size, dict(+left_out), doubled, damage)


def _members(file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    try:
        tar = tarfile.TarFile(fileobj=file)  # which reads the first header
    except tarfile.ReadError as error:
        if 'empty' in str(error):
            return
        raise
    while (info := tar.next()) is not None:
        tar.members.clear()  # type: ignore[attr-defined]  # else it keeps them all
        yield info


def _end_of(file: BinaryIO, end: int, size: int) -> str:
    """What is wrong with the end of a tar, which is a block of zeros after the last member."""
    if size == 0:
        return 'the file is empty'
    block = tarfile.BLOCKSIZE
    file.seek(-(-end // block) * block)
    found = file.read(block)
    if len(found) < block:
        return 'it ends without the mark of its end'
    return f'byte {file.tell() - block:,} begins no member' if found.strip(b'\0') else ''


def _key(name: str) -> str:
    """What the files of one sample have in common: the name up to the first dot of its file."""
    folder, slash, file = name.rpartition('/')
    return folder + slash + file.partition('.')[0]
