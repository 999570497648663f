"""Lists of names (``ann_file`` of mmseg's data sets), which mmseg joins to paths as they are."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from moca.errors import UserError

_MARK = '\ufeff'


def check_names(path: Path, suffix: str, folder: Path) -> str | None:
    """Check that each line of a list is a name as mmseg reads it.

    Args:
        path: of the list: a name a line, without its ending, relative to the folder.
        suffix: what mmseg appends to a name to find its image.
        folder: where the images lie.

    Returns:
        A note on names that occur more than once; None if there are none.

    Raises:
        UserError: naming the list, the line and what to do about it.
    """
    try:
        text = path.read_text(encoding='utf-8')
    except UnicodeDecodeError as error:
        raise UserError(
            f'{path}: not text in UTF-8 ({error.reason} at byte {error.start}). Save it as UTF-8: '
            f'iconv -f UTF-16 -t UTF-8, where PowerShell wrote it.'
        ) from error
    if text.startswith(_MARK):
        raise UserError(
            f'{path}: begins with a byte order mark, which would be a part of the first name. Save '
            "it as UTF-8 without one: sed -i '1s/^\\xEF\\xBB\\xBF//' FILE."
        )
    names = [line.strip() for line in text.splitlines()]
    if not any(names):
        raise UserError(f'{path}: the list is empty. Give a name a line, without its ending.')
    for number, name in enumerate(names, 1):
        if not name:
            raise UserError(f"{path}, line {number}: blank. Remove such lines: sed -i '/^\\s*$/d'.")
        if not (folder / f'{name}{suffix}').is_file():
            _name_fault(f'{path}, line {number}', name, suffix, folder)
    twice = {name: count for name, count in Counter(names).items() if count > 1}
    if not twice:
        return None
    first = next(iter(twice))
    return (
        f'{path}: {len(twice)} names occur more than once, such as {first!r}: these images are '
        'trained on or counted as often'
    )


def _name_fault(where: str, name: str, suffix: str, folder: Path) -> None:
    """Raise if a name that leads to no image is no mere name."""
    first, *others = name.replace(',', ' ').split()
    if others and Path(first).suffix:
        raise UserError(
            f'{where}: {name!r} names two files. Give one name a line, without its ending and '
            f'relative to {folder}; label maps are found by seg_map_suffix.'
        )
    if (folder / name).is_file() or name.endswith(suffix):
        raise UserError(
            f'{where}: {name!r} stands with its ending, to which img_suffix={suffix!r} is '
            'appended. List names without it.'
        )
