"""What a disk refuses, in one line."""

from __future__ import annotations

import errno
import io
import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

_REFUSED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE)
_FORBIDDEN = (errno.EACCES, errno.EPERM)
_OF_ANOTHER_KIND = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR)
_RESUME = '--resume then continues a run from its last checkpoint.'


def disk_error(error: BaseException) -> str | None:
    """The line that stands for what a disk does not take or give; None for other errors.

    The error may be the cause of another one: libraries wrap what they are given. A disk that is
    full, read-only or failing counts also where another error came of it; what is forbidden, or of
    another kind (a file where a folder should be), only where it was not dealt with.
    """
    seen: BaseException | None = error
    given = True  # as the error or its cause
    while seen is not None:
        if isinstance(seen, OSError) and (line := _line(seen, given)):
            return line
        given &= seen.__cause__ is not None
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return None


def _line(error: OSError, given: bool) -> str | None:
    if error.errno in _REFUSED:
        return (
            f'{_file_of(error) or "a file"}: the disk does not take or give it '
            f'({error.strerror}). Make room, or make it writable; {_RESUME}'
        )
    where = _file_of(error) if given else None
    if where and error.errno in _FORBIDDEN:
        return (
            f'{where}: this account may not read or write it ({error.strerror}). Change its owner '
            f'or mode (chown, chmod), or name another place; {_RESUME}'
        )
    if where and error.errno in _OF_ANOTHER_KIND:
        return (
            f'{where}: a file is where a folder should be, or a folder where a file should '
            f'({error.strerror}). Move it away, or name another place; {_RESUME}'
        )
    return None


def _file_of(error: OSError) -> str | None:
    """The file of an error; where that names none, as at a write, the one that was open for it."""
    name = error.filename2 or error.filename
    for frame, _ in traceback.walk_tb(error.__traceback__) if name is None else ():
        for value in frame.f_locals.values():
            if isinstance(value, io.IOBase) and set(str(getattr(value, 'mode', ''))) & set('wax+'):
                name = getattr(value, 'name', None) or name  # the innermost is the last
    return None if name is None else str(name)


@contextmanager
def log_files_raise() -> Iterator[None]:
    """Let what a disk refuses to a log file end a run, as it does with any other of its files.

    `logging` by itself prints a traceback for each message, and the log has holes.
    """
    given = logging.FileHandler.handleError

    def handle(self: logging.Handler, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if error is not None and disk_error(error):
            raise error
        given(self, record)

    logging.FileHandler.handleError = handle  # type: ignore[method-assign]
    try:
        yield
    finally:
        logging.FileHandler.handleError = given  # type: ignore[method-assign]
