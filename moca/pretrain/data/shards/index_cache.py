"""The indexes of tars: found beside them or in a cache, or made there once."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from mmengine.logging import print_log

from moca.errors import UserError
from moca.pretrain.data.shards.parallel import in_threads
from moca.pretrain.data.shards.storage import (
    ShardFile,
    is_local,
    look_at,
    open_shard,
    reason,
    storage,
)
from moca.pretrain.data.shards.tar_index import ShardIndex, index_tar
from moca.records.whole_files import write_atomically

INDEX = '.index'
"""What the name of an index has behind that of its tar."""

CACHE_VARIABLE = 'MOCA_CACHE'
"""Environment variable: the folder for indexes of tars that have none beside them."""

_THREADS = 16  # [our choice: waiting for a storage, not the CPU, takes the time]
_EVERY = 10.0  # seconds between lines of progress [our choice]


def find_index(file: ShardFile) -> tuple[ShardIndex, bool]:
    """The index of a tar: that beside it, else that of the cache, else made and kept there.

    Returns:
        The index, and whether it was made now.

    Raises:
        UserError: The tar cannot be read.
    """
    beside = _read_beside(file.url)
    if beside is not None and beside.size == file.size:
        return beside, False
    kept = cache_folder() / f'{sha256(f"{_whole(file.url)} {file.state}".encode()).hexdigest()}.npz'
    try:
        index = ShardIndex.from_bytes(kept.read_bytes())
    except OSError:
        index = None
    if index is not None and index.size == file.size:
        return index, False
    try:
        with open_shard(file.url) as opened:
            index = index_tar(opened, file.size)
    except Exception as error:  # whatever a storage raises
        raise UserError(
            f'{file.url}: this shard cannot be read ({reason(error)}). Give shards that can.'
        ) from error
    try:
        write_atomically(kept, index.to_bytes())
    except OSError as error:
        raise UserError(
            f'{kept}: the index of {file.url} cannot be kept there ({reason(error)}). Set the '
            f'environment variable {CACHE_VARIABLE} to a folder that can be written to.'
        ) from error
    return index, True


def find_indexes(urls: Sequence[str]) -> list[tuple[ShardFile, ShardIndex]]:
    """Find or make the indexes of many tars at the same time; progress goes to the log.

    Raises:
        UserError: One cannot be read, or its index cannot be kept.
    """

    def find(url: str) -> tuple[ShardFile, ShardIndex, bool]:
        file = look_at(url)
        return file, *find_index(file)

    found, made, said = [], 0, time.monotonic()
    for file, index, is_new in in_threads(find, urls, _THREADS):
        found.append((file, index))
        made += is_new
        if made and time.monotonic() - said > _EVERY:
            said = time.monotonic()
            print_log(f'Looked through {len(found):,} of {len(urls):,} shards', 'current')
    if made:
        print_log(
            f'Made the indexes of {made:,} of {len(urls):,} shards, kept in {cache_folder()}',
            'current',
        )
    return found


def cache_folder() -> Path:
    """Where indexes are kept of tars that have none beside them."""
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return Path(given)
    # as the XDG Base Directory Specification has it
    return Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache').expanduser() / 'moca' / 'shards'


def _read_beside(url: str) -> ShardIndex | None:
    path = url + INDEX
    try:
        if is_local(url):
            return ShardIndex.from_bytes(Path(path).read_bytes())
        files, inner = storage(path)
        return ShardIndex.from_bytes(files.cat_file(inner))
    except Exception:  # whatever a storage raises for what is not there
        return None


def _whole(url: str) -> str:
    return os.path.realpath(url) if is_local(url) else url
