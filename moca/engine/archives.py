"""Whether the zip archive that ``torch.save`` writes is still the one that was written."""

from __future__ import annotations

import zipfile
from collections import Counter
from pathlib import Path

import torch

# What a member's entry in the directory says of it where zipfile looks away and torch does not.
_ENCRYPTED = 0x1 | 0x40 | 0x2000  # general purpose bit flags 0, 6 and 13 [APPNOTE.TXT, 4.4.4]
_FOLDER = 0x10  # of the external attributes, as MS-DOS has them [APPNOTE.TXT, 4.4.15]


def is_archive(path: Path) -> bool:
    """Whether a file is a zip archive, be it a damaged one."""
    try:
        return zipfile.is_zipfile(path)
    except Exception:  # of an end that it has found and cannot read
        return True


def archive_members(path: Path) -> list[str] | None:
    """The names in the directory of a zip archive; None where damage leaves none to be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except Exception:  # see `archive_damage`
        return None


def archive_damage(path: Path) -> str | None:
    """Read an archive of ``torch.save`` once, comparing every member with its CRC-32.

    torch itself compares none: a changed bit would become another weight. It costs about one
    second for two gigabytes.

    Returns:
        What is wrong, None for nothing: the directory or a member is damaged, or a member doubled
        or compressed, which torch's never are (a small file may otherwise become any amount of
        memory).
    """
    try:
        with zipfile.ZipFile(path) as archive:
            found = _odd(archive.infolist()) or _damaged(archive.testzip())
        if found is None:
            # reads the directory alone, fields of which zipfile does not look at
            with path.open('rb') as file:  # by name it would take none that is no UTF-8
                torch._C.PyTorchFileReader(file)
    except Exception as error:  # zipfile trips over whatever damage has left in the directory
        return f'a damaged archive ({_brief(error)})'
    return found


def _odd(members: list[zipfile.ZipInfo]) -> str | None:
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED:
            return f'not written by torch.save ({member.filename} is compressed)'
        if member.file_size != member.compress_size:
            return f'a damaged archive ({member.filename} has two sizes)'
        if member.flag_bits & _ENCRYPTED or member.external_attr & _FOLDER:
            return f'a damaged archive ({member.filename} would be encrypted or a folder)'
    names = Counter(member.filename for member in members)
    doubled = next((name for name, times in names.items() if times > 1), None)
    return doubled and f'not written by torch.save ({doubled} is in it twice)'


def _damaged(member: str | None) -> str | None:
    return member and (
        f'the checksum of {member} is wrong, as it also is after '
        'torch.serialization.set_crc32_options(False)'
    )


def _brief(error: Exception) -> str:
    text = str(error).partition('. This is an internal miniz error')[0].strip()
    return text.splitlines()[0] if text else type(error).__name__
