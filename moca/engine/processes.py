"""Other programs run as processes, with their output in a file."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol


class Process(Protocol):
    """What is used of `subprocess.Popen`."""

    def poll(self) -> int | None: ...

    def terminate(self) -> None: ...

    def wait(self, timeout: float | None = None) -> int: ...


Launch = Callable[[Sequence[str], Path], Process]
"""Starts a program with these arguments and this log file."""


def start(command: Sequence[str], log: Path, **environment: str) -> Process:
    """Start a command; what it prints goes to `log` at once, whose folder is made."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open('w') as out:
        return subprocess.Popen(
            command,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, 'PYTHONUNBUFFERED': '1', **environment},
        )
