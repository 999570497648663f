"""Other programs run as processes, with their output in a file."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
    """Start a command; what it prints goes to `log` at once, whose folder is made.

    On Linux it gets SIGTERM when this process ends, also by SIGKILL: nobody would wait for it, and
    it would keep its work dir from whoever goes on with it.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)  # a process that still writes to the old one keeps that
    with log.open('w') as out:
        return subprocess.Popen(
            command,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, 'PYTHONUNBUFFERED': '1', **environment},
            preexec_fn=_ending_with(os.getpid()) if sys.platform == 'linux' else None,
        )


# Of linux/prctl.h: the signal that a process gets when its parent ends.
_PR_SET_PDEATHSIG = 1


def _ending_with(parent: int) -> Callable[[], None]:
    """What a process does between its fork and its program, to end with the one that started it."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # which has ended meanwhile
            os._exit(128 + signal.SIGTERM)

    return ask


@contextmanager
def sigterm_noted() -> Iterator[Callable[[], None]]:
    """Hold SIGTERM, which batch systems send, until it can be acted on.

    By itself the signal would end this process alone and leave the ones that it waits for running.
    Only the main thread may ask for it.

    Yields:
        A function that raises `SystemExit` (143) if the signal has come since. Nothing is raised
        elsewhere, such as between the start of a process and the moment when it has a name here.
    """
    came = False

    def note(*_: object) -> None:
        nonlocal came
        came = True

    def leave_if_told() -> None:
        if came:
            raise SystemExit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield leave_if_told
    finally:
        signal.signal(signal.SIGTERM, before)
