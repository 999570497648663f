"""A changed bit anywhere in a checkpoint is noticed, or changes nothing of what torch reads."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from moca.checkpoints.reading import read_file
from moca.engine.archives import archive_damage, archive_members, is_archive
from moca.engine.checkpoints import latest_checkpoint
from moca.errors import UserError

STATE = {'weight': torch.arange(3.0), 'meta': {'iter': 4}}


@pytest.fixture(scope='module')
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp('whole') / 'iter_4.pth'
    torch.save(STATE, path)
    assert archive_damage(path) is None
    return path.read_bytes()


def changed(whole: bytes, path: Path, places: Iterable[int]) -> Iterator[Path]:
    """The file with one bit flipped: of every byte one, and all in turn."""
    for place in places:
        data = bytearray(whole)
        data[place] ^= 1 << place % 8
        path.write_bytes(data)
        yield path


def is_same(content: Any) -> bool:
    return (
        content.keys() == STATE.keys()
        and torch.equal(content['weight'], STATE['weight'])
        and content['meta'] == STATE['meta']
    )


def test_what_is_called_whole_is_read_by_torch_as_it_was(whole: bytes, tmp_path: Path) -> None:
    damaged, directory = 0, whole.index(b'PK\x01\x02')
    places = [*range(0, directory, 3), *range(directory, len(whole))]
    for path in changed(whole, tmp_path / 'iter_4.pth', places):
        if archive_damage(path) is None:
            assert is_same(torch.load(path, weights_only=True))
        else:
            damaged += 1
    assert damaged > len(places) / 4  # the others are in padding, dates and versions


@pytest.mark.parametrize('field', [8, 9, 20, 38])
def test_fields_that_zipfile_does_not_look_at(field: int, whole: bytes, tmp_path: Path) -> None:
    """Of an entry of the directory: flags, stored size, and the attribute of a folder, for which
    torch would fill the tensor with whatever lies in memory."""
    path, entry = tmp_path / 'iter_4.pth', whole.rindex(b'PK\x01\x02')
    for bit in (0, 4, 5):
        data = bytearray(whole)
        data[entry + field] ^= 1 << bit
        path.write_bytes(data)
        if archive_damage(path) is None:
            assert is_same(torch.load(path, weights_only=True))


def test_a_run_and_a_tool_meet_every_damage_of_the_directory(whole: bytes, tmp_path: Path) -> None:
    """The run goes on from the file before; the tool says in one line that the file is damaged."""
    (tmp_path / 'iter_2.pth').write_bytes(whole)
    directory = range(whole.index(b'PK\x01\x02'), len(whole))
    passed_over = 0
    for path in changed(whole, tmp_path / 'iter_4.pth', directory):
        found = latest_checkpoint(tmp_path)
        assert found in (path, tmp_path / 'iter_2.pth')
        if found != path:
            passed_over += 1
            with pytest.raises(UserError, match=r'iter_4\.pth: '):
                read_file(path)
    assert passed_over > len(directory) / 3


def test_an_end_that_cannot_be_read_is_of_a_damaged_archive(tmp_path: Path) -> None:
    path = tmp_path / 'a.pth'
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('a', b'1')
    # the note of a larger directory that lies on another disk [APPNOTE.TXT, 4.3.15]
    data = path.read_bytes()
    end = data.index(b'PK\x05\x06')
    path.write_bytes(data[:end] + b'PK\x06\x07' + b'\1' * 16 + data[end:])
    with pytest.raises(zipfile.BadZipFile):
        zipfile.is_zipfile(path)
    assert is_archive(path)
    assert archive_members(path) is None
    assert archive_damage(path)
    with pytest.raises(UserError, match=r'a\.pth: a damaged archive \('):
        read_file(path)


def test_names_of_any_bytes(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b'\xff iter_4.pth')
    path.write_bytes(whole)
    assert archive_damage(path) is None


def test_other_files_are_no_archives(tmp_path: Path) -> None:
    path = tmp_path / 'a.pth'
    path.write_bytes(b'cut off')
    assert not is_archive(path)
    assert archive_members(path) is None
    assert archive_damage(path) == 'a damaged archive (File is not a zip file)'
