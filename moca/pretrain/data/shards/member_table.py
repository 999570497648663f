"""The images of many shards in one table, and what is said of them as a run starts."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from hashlib import sha256
from typing import Any

import numpy as np
from mmengine.logging import print_log
from numpy.typing import NDArray

from moca.errors import UserError
from moca.images.listing import USUAL_ENDINGS
from moca.pretrain.data.shards.index_cache import find_indexes
from moca.pretrain.data.shards.manifest import MANIFEST, missing_shards
from moca.pretrain.data.shards.storage import TAR, ShardFile, find_shards, is_local
from moca.pretrain.data.shards.tar_index import ShardIndex


@dataclass(frozen=True)
class MemberTable:
    """The images of all shards.

    Attributes:
        urls: Of the shards.
        members: Of `MEMBER`, ``[N]``, shard after shard.
        ends: Of each shard among the members: the number of the one behind its last.
        digest: A text for which images lie where, the same for the same ones.
        about: A line for logs: how many images there are, and what is left out.
    """

    urls: list[str]
    members: NDArray[Any]
    ends: NDArray[np.int64]
    digest: str
    about: str


def gather_members(root: str, limit: int | None, pattern: str | None) -> MemberTable:
    """Find the shards of a data root and the images in them.

    Args:
        root: As :func:`.storage.find_shards` takes it.
        limit: Use at most this many images, evenly spaced through them.
        pattern: Of the members that are images; None takes all, of which each key may have one.

    Raises:
        UserError: Shards are missing or unreadable, there are fewer than two images, or a key has
            two.
    """
    urls = find_shards(root)
    whole = os.path.isdir(root) if is_local(root) else not root.endswith(TAR)
    if lacking := missing_shards(urls) if whole else []:
        print_log(
            f'{root}: {len(lacking):,} shards that its {MANIFEST} names are not there, such as '
            f'{lacking[0]}; the {len(urls):,} others are used.',
            'current',
            level=logging.WARNING,
        )
    found = find_indexes(urls)
    if '::' in root:  # fsspec's caches are not told how large they may become
        print_log(
            f'{root}: {root.partition("::")[0]} removes nothing while a run lasts, and shards have '
            f'{sum(file.size for file, _ in found) / 1e9:,.1f} GB; each process and worker has a '
            'cache of its own, unless FSSPEC_SIMPLECACHE_CACHE_STORAGE names a folder for all.',
            'current',
            level=logging.WARNING,
        )
    tables = [_chosen(file, index, pattern) for file, index in found]
    ends = np.cumsum([len(table) for table in tables])
    table = np.concatenate(tables)
    about = _describe(root, found, len(table), pattern)
    if len(table) < 2:
        raise UserError(
            f'data_root {root} holds {"one image" if len(table) else "no image"} ({about}). '
            'Pre-training needs at least 2; give the shards that hold the images.'
        )
    if limit is not None and limit < len(table):
        kept = np.arange(limit) * len(table) // limit
        table, ends = table[kept], np.searchsorted(kept, ends)
        about = f'{limit:,} images of {about}'
    digest = sha256(table.tobytes() + ends.tobytes()).hexdigest()
    return MemberTable([file.url for file, _ in found], table, ends, digest, about)


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
