"""Looking at every byte of tar shards before training: checksums, images, missing shards."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from moca.errors import UserError
from moca.images.inspection import inspect
from moca.pretrain.data.shards.index_cache import find_index
from moca.pretrain.data.shards.manifest import missing_shards
from moca.pretrain.data.shards.packing import Watch
from moca.pretrain.data.shards.parallel import in_threads
from moca.pretrain.data.shards.storage import (
    RangeReader,
    find_shards,
    look_at,
    open_shard,
    reason,
)

_THREADS = 8
_BLOCK = 8 << 20  # bytes of a shard that are hashed at a time


@dataclass
class Verified:
    """What was found in a shard.

    Attributes:
        url: Its path or URL.
        images: In its index.
        size: In bytes.
        hashed: Whether there was a checksum to hold it against.
        faults: What is wrong, a line each.
    """

    url: str
    images: int
    size: int
    hashed: bool
    faults: list[str] = field(default_factory=list)


def verify_shards(root: str, watch: Watch) -> tuple[list[Verified], list[str]]:
    """Read all shards, hold them against their checksums, and decode every image.

    Indexes that are not there are made and kept, so that a run need not.

    Args:
        root: As :func:`.storage.find_shards` takes it.
        watch: Shows progress.

    Returns:
        What was found in each, and shards that the manifest names and that are not there.

    Raises:
        UserError: There are no shards, or one cannot be read at all.
    """
    urls = find_shards(root)
    found = list(watch(in_threads(_verify, urls, _THREADS), len(urls), 'shards'))
    return found, missing_shards(urls)


def _verify(url: str) -> Verified:
    file = look_at(url)
    index, _ = find_index(file)
    found = Verified(url, len(index.members), file.size, bool(index.sha256))
    if index.damage:
        found.faults.append(f'{url}: {index.damage}')
    if index.doubled:
        found.faults.append(f'{url}: {" and ".join(index.doubled)} are two images under one key')
    if index.sha256 and _sha256(url) != index.sha256:
        found.faults.append(f'{url}: its SHA-256 is not {index.sha256}, as it was when written')
    reader = RangeReader()
    for (start, size, header), name in zip(index.members.tolist(), index.names, strict=True):
        (data,) = reader.read([(url, start + header, start + header + size)])
        damage = inspect(data).damage if isinstance(data, bytes) else reason(data)
        if damage:
            found.faults.append(f'{url}/{name}: {damage}')
    return found


def _sha256(url: str) -> str:
    digest = hashlib.sha256()
    try:
        with open_shard(url) as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except Exception as error:  # whatever a storage raises
        raise UserError(f'{url}: cannot be read to its end ({reason(error)}).') from error
    return digest.hexdigest()
