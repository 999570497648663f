"""The benchmark of extraction: both ways see the same pixels, and it prints what it measured."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from moca.errors import UserError
from tests.images.photographs import photograph
from tools.benchmarks import __main__ as benchmark
from tools.benchmarks.extraction import measure_extraction


@pytest.fixture(scope='module')
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('photographs')
    for number, sides in enumerate(((90, 120), (131, 80), (60, 60))):
        Image.fromarray(photograph(*sides, number)).save(folder / f'{number}.jpg')
    return folder


@pytest.mark.parametrize('interpolation', ['bicubic', 'bilinear'])
@pytest.mark.parametrize('size', [48, 224])
def test_pixels_are_torchvisions(photographs: Path, size: int, interpolation: str) -> None:
    speed = measure_extraction(photographs, 0.01, size, 'vit_tiny_patch16', interpolation)
    assert speed.equal
    assert (speed.images, speed.looked) == (3, 8)
    assert 0 < speed.decoding_share < 1
    ours = speed.decoding + speed.cutting
    assert speed.ratio_of_reading == pytest.approx(speed.plain_reading / ours)


def test_the_tool(photographs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ['extraction', '--data', str(photographs), '--seconds', '0.01', '--size', '48']
    assert benchmark.main([*where, '--arch', 'vit_tiny_patch16']) == 0
    printed = capsys.readouterr().out
    assert 'equal bit for bit' in printed
    assert ' % of all' in printed


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'does not exist|no image|No image'):
        measure_extraction(tmp_path, seconds=1)
    with pytest.raises(UserError, match='seconds is 0'):
        measure_extraction(None, seconds=0)
