"""One job at a time in a thread, whose errors are raised where it is waited for."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from mmengine.logging import print_log

_NAME = 'moca: writing'


class BackgroundJob:
    """Runs a function in a thread; the next one starts when it is done.

    The interpreter does not end before the thread does. A process that leaves by `os._exit` has to
    call :func:`finish_jobs`.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def start(self, job: Callable[[], None]) -> None:
        """Run a function, after the one before.

        Raises:
            Exception: What the one before has raised.
        """
        self.wait()

        def run() -> None:
            try:
                job()
            except BaseException as error:
                self._error = error
                # said here too: the run may end by another error before anybody asks
                with suppress(OSError):  # of a log on the same disk
                    print_log(f'{error}', 'current', logging.ERROR)

        self._thread = threading.Thread(target=run, name=_NAME)
        self._thread.start()

    def check(self) -> None:
        """Raise what a job has raised, once; a job that is running goes on."""
        if self._thread is not None and not self._thread.is_alive():
            self.wait()

    def wait(self) -> None:
        """Wait for the job and raise what it has raised."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error


def finish_jobs(seconds: float = 60) -> None:
    """Wait for the jobs of this process before it leaves, but no longer than that; then say so.

    Launchers kill a process that is told to end after half a minute, and one that has hung at its
    disk would hold its GPU for ever.
    """
    until = time.monotonic() + seconds
    for thread in threading.enumerate():
        if thread.name == _NAME and thread is not threading.current_thread():
            thread.join(max(0, until - time.monotonic()))
            if thread.is_alive():
                print(
                    f'warning: a checkpoint is still being written after {seconds:.0f} s. If the '
                    'process ends before it is, the one before remains.',
                    file=sys.stderr,
                )
