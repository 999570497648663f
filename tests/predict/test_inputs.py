"""Which files are meant, and under which names their results lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from moca.errors import UserError
from moca.predict.inputs import Input, find_inputs
from tests import odd_files
from tools.predict import without_results


def images(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(odd_files.encode(odd_files.pixels(), 'PNG') or b'')


def test_names_stay_below_the_folder_of_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images(tmp_path, 'a/c/x.png', 'a/b/d/y.png')
    monkeypatch.chdir(tmp_path / 'a/b')
    found, shared = find_inputs(['../c', 'd', '../c/x.png'])
    assert shared == tmp_path / 'a'
    assert [item.name for item in found] == ['c/x', 'b/d/y']  # each once


def test_results_of_an_earlier_call_are_no_inputs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images(tmp_path, 'x.png', 'predicted/masks/x.png')
    found, _ = find_inputs([tmp_path])
    kept = without_results(found, tmp_path / 'predicted')
    assert [item.path for item in kept] == [tmp_path / 'x.png']
    assert 'left out: 1 file' in capsys.readouterr().out
    with pytest.raises(UserError, match='all inputs lie in it'):
        without_results(found, tmp_path)


def test_a_name_is_one_inputs_alone(tmp_path: Path) -> None:
    images(tmp_path, 'drive/000000.png', 'a.png', 'a.jpg', 'a.jpg.png')
    (tmp_path / 'drive.mp4').write_bytes(b'film')
    with pytest.raises(UserError, match=r'000000\.png.*name drive/000000'):
        find_inputs([tmp_path / 'drive.mp4', tmp_path / 'drive'])
    with pytest.raises(UserError, match=r'the name a\.jpg of those of another'):
        find_inputs([tmp_path / name for name in ('a.png', 'a.jpg', 'a.jpg.png')])
    found, _ = find_inputs([tmp_path / 'a.png', tmp_path / 'a.jpg'])
    assert {item.name for item in found} == {'a.png', 'a.jpg'}
    assert all(isinstance(item, Input) for item in found)
