"""The list of all shards that were written together, which lies beside them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from moca.pretrain.data.shards.storage import is_local, storage

MANIFEST = 'manifest.json'
"""Of a folder of shards: numbers of images, classes, and the SHA-256 of each shard."""


def missing_shards(urls: Sequence[str]) -> list[str]:
    """Names in the manifest beside shards that are not among these; none without a manifest."""
    folders = {url.rpartition('/')[0] for url in urls}
    missing = []
    for folder in sorted(folders):
        path = f'{folder}/{MANIFEST}' if folder else MANIFEST
        try:
            if is_local(path):
                text = Path(path).read_bytes()
            else:
                files, inner = storage(path)
                text = files.cat_file(inner)
            names = [shard['name'] for shard in json.loads(text)['shards']]
        except Exception:  # none there, or somebody else's file of that name
            continue
        there = {url.rpartition('/')[2] for url in urls if url.rpartition('/')[0] == folder}
        missing += [f'{folder}/{name}' for name in names if name not in there]
    return missing
