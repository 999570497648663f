"""How image files are called where there is little room, as on a sheet."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

_CUT = '…'


def shown_names(paths: Sequence[Path | str]) -> list[str]:
    """Return what tells files apart: their names, with folders only where two are called alike.

    Example:
        >>> shown_names(['data/a/0.png', 'data/b/1.png'])
        ['0.png', '1.png']
        >>> shown_names(['data/a/0.png', 'data/b/0.png'])
        ['a/0.png', 'b/0.png']
    """
    files = [Path(os.path.abspath(path)) for path in paths]
    if len({file.name for file in files}) == len(set(files)):
        return [file.name for file in files]
    shared = os.path.commonpath([file.parent for file in files])
    return [file.relative_to(shared).as_posix() for file in files]


def shortened(name: str, most: int) -> str:
    """Cut the middle out of a name of more than `most` letters: both of its ends tell something.

    Example:
        >>> shortened('frankfurt_000000_000294_leftImg8bit.png', 24)
        'frankfurt_00…mg8bit.png'
    """
    if len(name) <= most:
        return name
    kept = max(most - len(_CUT), 2)
    return f'{name[: kept - kept // 2]}{_CUT}{name[-(kept // 2) :]}'
