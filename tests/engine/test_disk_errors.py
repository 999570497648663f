"""What a disk refuses is one line that names the file; other errors stay what they are."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from moca.engine.cli import main_guard
from moca.engine.disk_errors import disk_error


@pytest.mark.parametrize('number', [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_a_refusal_is_one_line_with_the_file_and_what_to_do(number: int, capsys: Any) -> None:
    def write() -> None:
        try:
            raise OSError(number, os.strerror(number), 'work_dirs/a/scalars.json')
        except OSError as error:
            raise RuntimeError('of a library') from error

    assert main_guard(write)() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('error: work_dirs/a/scalars.json: the disk does not take or give it (')
    assert os.strerror(number) in line
    assert '--resume' in line


def test_a_file_system_that_is_full_is_told(capsys: Any) -> None:
    def write() -> None:
        with Path('/dev/full').open('w') as file:
            file.write('x')

    assert main_guard(write)() == 2
    assert 'error: a file: the disk does not take' in capsys.readouterr().err


def test_other_errors_are_not_the_disks() -> None:
    assert disk_error(FileNotFoundError(errno.ENOENT, 'No such file')) is None
    assert disk_error(ValueError('no')) is None
