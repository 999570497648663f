"""Files that appear whole or not at all, also if the process is killed meanwhile."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def partial_of(path: Path) -> Path:
    """Where a file is while it is being written, ``.NAME.HOST-PROCESS.partial`` beside it.

    In containers, processes of many machines have the same number.
    """
    return path.with_name(f'.{path.name}.{socket.gethostname()}-{os.getpid()}.partial')


@contextmanager
def atomic_file(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file for writing, which takes its name when all of it is on the disk.

    Until then it is called as `partial_of` says; an error removes it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_of(path)
    try:
        with partial.open('wb') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        if error.errno and (error.filename is None or str(error.filename) == str(partial)):
            error.filename = str(path)  # for whoever reads the message
        raise
    finally:
        partial.unlink(missing_ok=True)


def write_atomically(path: str | Path, content: bytes) -> None:
    """Write a file that appears whole or not at all, also if the process is killed meanwhile."""
    with atomic_file(path) as file:
        file.write(content)
