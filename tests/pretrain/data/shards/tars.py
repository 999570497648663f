"""Tars for tests, written by Python's own module."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path


def write_tar(path: Path, files: Mapping[str, bytes], form: int = tarfile.USTAR_FORMAT) -> bytes:
    """Write files in their order; returns the bytes of the tar."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode='w', format=form) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(buffer.getvalue())
    return buffer.getvalue()


def write_split(folder: Path, files: Mapping[str, bytes], counts: list[int]) -> list[Path]:
    """Write ``000.tar``, ``001.tar``, ... with so many of the files each, in their order."""
    names = iter(files)
    paths = []
    for number, count in enumerate(counts):
        part = {name: files[name] for name in (next(names) for _ in range(count))}
        paths.append(folder / f'{number:03d}.tar')
        write_tar(paths[-1], part)
    assert next(names, None) is None
    return paths


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder by their paths, sorted."""
    files = sorted(path for path in folder.rglob('*') if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
