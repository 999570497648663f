"""What a disk refuses, in one line."""

from __future__ import annotations

import errno

_REFUSED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE)


def disk_error(error: BaseException) -> str | None:
    """The line that stands for a disk that is full, read-only or failing; None for other errors.

    The error may be the cause of another one: libraries wrap what they are given.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _REFUSED:
            where = seen.filename2 or seen.filename or 'a file'
            return (
                f'{where}: the disk does not take or give it ({seen.strerror}). Make room, or make '
                'it writable; --resume then continues a run from its last checkpoint.'
            )
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return None
