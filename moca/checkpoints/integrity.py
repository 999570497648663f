"""Whether the bytes of a checkpoint are those that were written, and no more than they say."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from moca.engine.archives import archive_damage, is_archive
from moca.errors import UserError

CHECKSUM = 'tensors_sha256'
"""Under this name the metadata of the safetensors files that we write has their checksum."""


def checksum(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and bytes of tensors, in the order of the names.

    safetensors has no checksums of its own; with this one a changed bit is noticed on reading.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f'{name} {value.dtype} {list(value.shape)}\n'.encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def verify_checksum(tensors: Mapping[str, Tensor], said: Mapping[str, str], path: Path) -> None:
    """Compare tensors with the checksum in a file's metadata, where it has one.

    Raises:
        UserError: They are not what was written.
    """
    if CHECKSUM in said and checksum(tensors) != said[CHECKSUM]:
        raise UserError(
            f'{path}: its tensors are not those that were written ({CHECKSUM} in its metadata '
            'says others). The file is damaged or was changed; fetch or export it again.'
        )


def verify_archive(path: Path) -> None:
    """Read a zip archive of ``torch.save`` once; see `moca.engine.archives.archive_damage`.

    Files that are no zip archives are left alone.

    Raises:
        UserError: It is damaged, or torch has not written it.
    """
    damage = archive_damage(path) if is_archive(path) else None
    if damage:
        raise UserError(f'{path}: {damage}. Fetch it again.')


def verify_tensors(content: Any, path: Path) -> None:
    """Verify that tensors are dense and claim no more than their file holds.

    A tensor may repeat one number over any shape, and become that large as soon as it is used.

    Raises:
        UserError: One claims more bytes than the whole file has, or is sparse.
    """
    limit = path.stat().st_size
    for name, value in _tensors(content, ''):
        if value.layout is not torch.strided:
            kind = str(value.layout).removeprefix('torch.')
            raise UserError(
                f'{path}: {name} is no dense tensor ({kind}). Save it with to_dense() of it.'
            )
        size = value.numel() * value.element_size()
        if size > limit:
            raise UserError(
                f'{path}: {name or "its tensor"} {list(value.shape)} would take {size:,} bytes, '
                f'and the file has {limit:,}. It repeats numbers; fetch it again.'
            )


def _tensors(content: Any, name: str, depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    if isinstance(content, Tensor):
        yield name, content
    elif depth < 8 and isinstance(content, Mapping):
        for key, value in content.items():
            yield from _tensors(value, f'{name}.{key}'.lstrip('.'), depth + 1)
    elif depth < 8 and isinstance(content, list | tuple):
        for place, value in enumerate(content):
            yield from _tensors(value, f'{name}.{place}', depth + 1)
