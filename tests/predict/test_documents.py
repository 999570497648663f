"""The Python of the documents is run."""

from __future__ import annotations

import doctest
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_python_of_the_page(
    run_of: Callable[[str], Path], images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(run_of('segmentation'), tmp_path / 'work_dirs/probe')
    shutil.copy(images / 'a/0.png', tmp_path / 'street.png')
    monkeypatch.chdir(tmp_path)
    page = ROOT / 'docs/predicting.md'
    text = page.read_text().replace('```', '')  # the fence would be taken for output
    parsed = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    runner = doctest.DocTestRunner(verbose=False)
    said: list[str] = []
    found = runner.run(parsed, out=said.append)
    assert found.attempted > 8
    assert not found.failed, ''.join(said)
