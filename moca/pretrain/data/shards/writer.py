"""Writing a folder of images as tar shards: in parallel, and taken up again after a kill.

A shard is a plain tar in the layout of WebDataset. A file's key is its path in the folder, which
keeps class folders; where every image lies in one, a ``.cls`` with its class's number stands beside
it, numbered as `torchvision.datasets.ImageFolder` does. Images are shuffled once, so that a shard
is a random part of the folder, and are copied byte for byte.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from moca.errors import UserError
from moca.images.files import sought
from moca.images.listing import list_folder
from moca.pretrain.data.shards.index_cache import INDEX
from moca.pretrain.data.shards.manifest import MANIFEST
from moca.pretrain.data.shards.packing import Member, Watch, digest_of, plan_shards
from moca.pretrain.data.shards.parallel import in_threads
from moca.pretrain.data.shards.storage import TAR
from moca.pretrain.data.shards.tar_index import ShardIndex, index_tar
from moca.records.whole_files import partial_of, write_atomically

_THREADS = 8  # [our choice: files are read and hashed outside of Python's lock]
_PARTIAL = '.partial'


@dataclass(frozen=True)
class Written:
    """What lies in a folder of shards afterwards.

    Attributes:
        images: In all of them.
        shards: How many.
        made: How many of them were written now; the others were there.
        size: Of all tars in bytes.
        classes: How many have a number in the ``.cls`` files; 0 without labels.
        left_out: What of the folder is in no shard, a clause.
        renamed: How many keys had to become others than the paths.
    """

    images: int
    shards: int
    made: int
    size: int
    classes: int
    left_out: str
    renamed: int


def write_shards(root: Path, out: Path, size: int, watch: Watch) -> Written:
    """Write the images of a folder as tar shards, each with its index, and a manifest.

    The same folder gives the same bytes. Shards that an earlier, interrupted call has made of the
    same files are kept: files appear whole or not at all.

    Args:
        root: A folder of images, searched with all below it.
        out: Folder for ``000000.tar``, ``000000.tar.index``, ... and ``manifest.json``, in which
            are numbers of images, classes and the SHA-256 of each shard.
        size: Of a shard in bytes; a larger image has a shard of its own.
        watch: Shows progress.

    Raises:
        UserError: There is no image, a file cannot be read or changes meanwhile, or `out` holds
            other shards or cannot be written to.
    """
    if not root.is_dir():
        raise UserError(f'{root}: no such folder. Give a folder of images.')
    if out.resolve().is_relative_to(root.resolve()):
        raise UserError(f'{out}: lies in {root}, whose images it is to hold. Give another folder.')
    listing = list_folder(root)
    if not listing.paths:
        raise UserError(f'{root}: no image in there ({sought(listing)}). Give a folder of images.')
    plan = plan_shards(root, list(listing.paths), size, watch)
    names = [f'{number:06d}{TAR}' for number in range(len(plan.shards))]
    _make_folder(out, names)
    found = _write_all(root, plan.shards, [out / name for name in names], watch)
    indexes = [index for index, _ in found]
    manifest = {
        'format': 'tar shards of images in the layout of WebDataset',
        'images': len(listing.paths),
        'classes': plan.classes,
        'shards': [
            {
                'name': name,
                'images': len(index.members),
                'bytes': index.size,
                'sha256': index.sha256,
            }
            for name, index in zip(names, indexes, strict=True)
        ],
    }
    write_atomically(out / MANIFEST, (json.dumps(manifest, indent=1) + '\n').encode())
    return Written(
        images=len(listing.paths),
        shards=len(names),
        made=sum(is_new for _, is_new in found),
        size=sum(index.size for index in indexes),
        classes=len(plan.classes),
        left_out=listing.passed_over(),
        renamed=plan.renamed,
    )


def _make_folder(out: Path, names: Sequence[str]) -> None:
    """Make the folder; refuse one with tars that would be taken for some of these."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        there = {path.name for path in out.iterdir()}
        for name in there:
            if name.startswith('.') and name.endswith(_PARTIAL):  # of a call that was killed
                (out / name).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f'{out}: {error.strerror}. Give another folder for the shards.') from error
    others = sorted(name for name in there - set(names) if name.endswith(TAR))
    if others:
        raise UserError(
            f'{out}: holds other shards, such as {others[0]}. Give an empty folder, or that of an '
            'interrupted call with the same images and --size.'
        )


def _write_all(
    root: Path, shards: Sequence[Sequence[Member]], paths: Sequence[Path], watch: Watch
) -> list[tuple[ShardIndex, bool]]:
    def write(job: tuple[Sequence[Member], Path]) -> tuple[ShardIndex, bool]:
        return _write_unless_there(root, *job)

    jobs = zip(shards, paths, strict=True)
    threads = min(_THREADS, os.cpu_count() or 1)
    return list(watch(in_threads(write, jobs, threads), len(paths), 'shards'))


def _write_unless_there(
    root: Path, members: Sequence[Member], path: Path
) -> tuple[ShardIndex, bool]:
    """Write a tar and its index; returns the index, and whether they were written now."""
    plan = digest_of(members)
    beside = path.with_name(path.name + INDEX)
    if path.is_file() and beside.is_file():
        known = ShardIndex.from_bytes(beside.read_bytes())
        if known is not None and known.plan == plan and known.size == path.stat().st_size:
            return known, False
    beside.unlink(missing_ok=True)
    partial = partial_of(path)
    try:
        with partial.open('w+b') as file:
            _write_tar(root, members, file)
            file.seek(0)
            digest = hashlib.file_digest(file, 'sha256').hexdigest()
            file.seek(0)
            index = index_tar(file, partial.stat().st_size)
        os.replace(partial, path)
        index = replace(index, sha256=digest, plan=plan)
        write_atomically(beside, index.to_bytes())
    except OSError as error:
        raise UserError(f'{path}: cannot be written ({error.strerror}). Make room.') from error
    finally:
        partial.unlink(missing_ok=True)
    return index, True


def _write_tar(root: Path, members: Sequence[Member], file: BinaryIO) -> None:
    with tarfile.open(fileobj=file, mode='w', format=tarfile.PAX_FORMAT) as tar:
        for member in members:
            for name, data in _files(root, member):
                info = tarfile.TarInfo(name)  # neither owner nor time: the same bytes everywhere
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    file.flush()
    os.fsync(file.fileno())


def _files(root: Path, member: Member) -> Iterator[tuple[str, bytes]]:
    path = root / member.path
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f'{path}: {error.strerror}. Mend or remove it, and start again.') from error
    if len(data) != member.size:
        raise UserError(f'{path}: has just changed. Start again when all files are in place.')
    yield member.key + member.ending, data
    if member.label is not None:
        yield f'{member.key}.cls', str(member.label).encode()
