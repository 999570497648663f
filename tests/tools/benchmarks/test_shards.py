"""The benchmark of shards: both are read, and what it prints is what it measured."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from moca.errors import UserError
from tests.images.photographs import photograph
from tools.benchmarks import __main__ as benchmark
from tools.benchmarks.shards import measure_shards


def test_the_tool(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('MOCA_CACHE', str(tmp_path / 'cache'))
    for number in range(9):
        Image.fromarray(photograph(40, 50, number)).save(tmp_path / f'{number}.jpg')
    arguments = ['shards', '--data', str(tmp_path), '--seconds', '0.1', '--size', '16']
    assert benchmark.main(arguments) == 0
    printed = capsys.readouterr().out
    assert '9 images' in printed
    rows = [line.split() for line in printed.splitlines() if line.startswith('  ')]
    numbers = {row[0]: float(row[1].rstrip(';')) for row in rows}
    assert numbers['ratio'] == pytest.approx(numbers['shards'] / numbers['files'], rel=0.01)
    # both decode the same images, which takes most of the time; a busy machine must not matter
    assert 0.4 < numbers['ratio'] < 2.5


def test_bad_input() -> None:
    with pytest.raises(UserError, match='seconds is 0'):
        measure_shards(None, seconds=0, size=64)
