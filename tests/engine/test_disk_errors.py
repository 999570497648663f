"""What a disk refuses is one line that names the file; other errors stay what they are."""

from __future__ import annotations

import errno
import logging
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.visualization import LocalVisBackend

from moca.engine.cli import main_guard
from moca.engine.disk_errors import disk_error
from moca.transfer.run_record import write_record


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


def test_a_file_system_that_is_full_is_told_by_the_file_that_was_open(capsys: Any) -> None:
    def write() -> None:
        with Path('/dev/full').open('w') as file:
            file.write('x')  # refused as it is closed, by an error that names no file

    assert main_guard(write)() == 2
    assert 'error: /dev/full: the disk does not take' in capsys.readouterr().err


@contextmanager
def no_room_beyond(size: int) -> Iterator[None]:
    """Files may have so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def log(folder: Path) -> None:
    logger = MMLogger(folder.name, log_file=str(folder / 'a.log'))
    with no_room_beyond(150):
        for _ in range(3):
            logger.info('x' * 80)


def scalars(folder: Path) -> None:
    backend = LocalVisBackend(str(folder))
    with no_room_beyond(10):
        backend.add_scalars({'loss': 1.0})


def config(folder: Path) -> None:
    with no_room_beyond(10):
        Config({'a': 'x' * 80}).dump(folder / 'config.py')


def record(folder: Path) -> None:
    with no_room_beyond(10):
        write_record(folder, {'a': 'x' * 80})


@pytest.mark.parametrize(
    ('write', 'name'),
    [(log, 'a.log'), (scalars, 'scalars.json'), (config, 'config.py'), (record, 'run.json')],
)
def test_each_file_of_a_run_is_named(
    write: Callable[[Path], None], name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main_guard(write)(tmp_path) == 2
    said = capfd.readouterr().err
    (line,) = said.splitlines()
    assert line.startswith(f'error: {tmp_path / name}: the disk does not take or give it (')
    assert os.strerror(errno.EFBIG) in line


def test_the_log_of_a_tool_alone_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Elsewhere logging goes on as it does, and so it does where the message is at fault."""
    monkeypatch.setattr(logging, 'raiseExceptions', True)
    log(tmp_path)
    assert '--- Logging error ---' in capfd.readouterr().err
    logger = MMLogger(f'{tmp_path.name}2', log_file=str(tmp_path / 'b.log'))
    assert main_guard(lambda: logger.info('%d', 'no number'))() == 0
    assert '--- Logging error ---' in capfd.readouterr().err


@pytest.mark.parametrize('number', [errno.EACCES, errno.EPERM])
def test_what_an_account_may_not_do(number: int, capsys: Any) -> None:
    def write() -> None:
        raise OSError(number, os.strerror(number), 'work_dirs/a/vis_data')

    assert main_guard(write)() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('error: work_dirs/a/vis_data: this account may not read or write it (')
    assert 'chmod' in line


def test_a_file_where_a_folder_should_be_and_the_other_way_round(
    tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / 'file').touch()
    for path, act in (
        ('file', lambda path: path.mkdir(exist_ok=True)),
        ('file/a.json', lambda path: path.open('w')),
        ('', lambda path: path.open('w')),
    ):
        assert main_guard(act)(tmp_path / path) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f'error: {tmp_path / path}: a file is where a folder should be, or')


def test_other_errors_are_not_the_disks() -> None:
    assert disk_error(FileNotFoundError(errno.ENOENT, 'No such file')) is None
    assert disk_error(ValueError('no')) is None
    assert disk_error(PermissionError(errno.EPERM, 'of no file')) is None  # as of os.kill


def test_an_error_after_a_refusal_that_was_dealt_with(tmp_path: Path) -> None:
    def fall_back() -> None:
        try:
            tmp_path.mkdir()
        except FileExistsError:
            raise KeyError('a fault of the code')  # noqa: B904

    with pytest.raises(KeyError):
        main_guard(fall_back)()
