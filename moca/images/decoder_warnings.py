"""What libjpeg says of damaged data, which OpenCV and Pillow do not pass on.

libjpeg goes on where the data of a JPEG make no sense: the rest of the image is gray, or shifted
and of other colors. It writes a warning to the process's standard error, which is read here.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar('T')

# libjpeg-turbo, jerror.h: of its warnings those that tell of damaged data. Others, such as
# 'Invalid SOS parameters for sequential JPEG', are written of whole files of some cameras.
_DAMAGE = ('Corrupt JPEG data', 'Premature end of JPEG file')
# A few bytes behind the last of the image, as some cameras pad: every pixel is right. More are left
# over where the data before them were misread [the limit is our choice].
_LEFT_OVER = re.compile(r'(\d+) extraneous bytes before marker 0xd9')
_PADDING = 32
_STDERR = 2


class _Ear:
    """Holds the standard error back while at least one thread decodes; says what came since."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._listening = 0
        self._alone = False
        self._file = self._stderr = -1

    @contextmanager
    def listen(self, alone: bool = False) -> Iterator[Callable[[], str]]:
        """Yield a function that returns what was written since, by this or by other threads.

        Args:
            alone: Let no other thread decode in the meantime, so that it was written by this one.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._alone and not (alone and self._listening))
            self._alone = alone
            self._listening += 1
            if self._listening == 1:
                self._start()
            start = 0 if self._listening == 1 else os.fstat(self._file).st_size
        try:
            yield lambda: self._written(start)
        finally:
            with self._changed:
                self._listening -= 1
                self._alone = False
                if self._listening == 0:
                    self._stop()
                self._changed.notify_all()

    def _start(self) -> None:
        if self._file < 0:
            self._file = os.memfd_create('decoder warnings')
        self._stderr = os.dup(_STDERR)
        os.dup2(self._file, _STDERR)

    def _stop(self) -> None:
        os.dup2(self._stderr, _STDERR)
        os.close(self._stderr)
        written = self._written(0)
        if not written:
            return
        others = [line for line in written.splitlines() if line and not _is_damage(line)]
        if others:  # what some other part of the process had to say
            os.write(_STDERR, '\n'.join([*others, '']).encode())
        # Descriptors share the place at which is written: both go back to the start.
        os.ftruncate(self._file, 0)
        os.lseek(self._file, 0, os.SEEK_SET)

    def _written(self, start: int) -> str:
        size = os.fstat(self._file).st_size
        if size == start:
            return ''
        return os.pread(self._file, size - start, start).decode(errors='replace')


_ear = _Ear()


def _new_ear() -> None:
    # A forked process has the locks of its parent's threads, but not the threads.
    global _ear
    _ear = _Ear()


os.register_at_fork(after_in_child=_new_ear)


def _is_damage(line: str) -> bool:
    left_over = _LEFT_OVER.search(line)
    return line.startswith(_DAMAGE) and not (left_over and int(left_over[1]) <= _PADDING)


def decode_listening(decode: Callable[[], T]) -> tuple[T, str | None]:
    """Call a function that decodes a JPEG by libjpeg.

    Threads may decode at the same time; where something was said, the function is called once
    more, alone, to know of which image.

    Returns:
        What it returned, and libjpeg's first warning of damaged data or None.
    """
    for alone in (False, True):
        with _ear.listen(alone) as written:
            result = decode()
            damage = next(filter(_is_damage, written().splitlines()), None)
        if damage is None:
            break
    return result, damage
