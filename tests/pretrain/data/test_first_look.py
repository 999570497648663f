"""What is said of a folder before the first step: label maps and constant images among others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from moca.pretrain.data.dataset import UnlabeledImages
from moca.pretrain.data.first_look import look_at_some
from tests.images.photographs import photograph, save_photographs

VIEWS = dict(type='AugmentedViews', size=16, views=[{}, {}])


def save_label_maps(folder: Path, count: int, classes: int, palette: bool = False) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        coarse = rng.integers(0, classes, (6, 8)).astype(np.uint8)
        image = Image.fromarray(np.kron(coarse, np.ones((8, 8), np.uint8)))
        if palette:
            image.putpalette(rng.integers(0, 256, 768).astype(np.uint8).tobytes())
        image.save(folder / f'{number:04d}.png')


@pytest.mark.parametrize('palette', [False, True])
@pytest.mark.parametrize('classes', [2, 19])
def test_label_maps_among_photographs(tmp_path: Path, classes: int, palette: bool) -> None:
    paths = save_photographs(tmp_path, count=12)
    save_label_maps(tmp_path / 'masks', 4, classes, palette)
    paths += [f'masks/{number:04d}.png' for number in range(4)]
    (note,) = look_at_some(tmp_path, paths).notes
    assert '4 of 16 images looked at look like label maps' in note
    assert 'masks/0000.png' in note
    assert 'Move them out of the folder' in note


def test_photographs_of_any_kind_are_no_label_maps(tmp_path: Path) -> None:
    image = Image.fromarray(photograph(64, 96, seed=0))
    image.convert('L').save(tmp_path / 'gray.png')
    image.quantize(256).save(tmp_path / 'palette.png')
    image.save(tmp_path / 'color.webp')
    levels = np.linspace(0, 4095, 64 * 96).reshape(64, 96).astype(np.uint16)
    Image.fromarray(levels).save(tmp_path / 'x-ray.png')
    image.convert('L').save(tmp_path / 'gray.jpg', quality=2)
    assert look_at_some(tmp_path, sorted(p.name for p in tmp_path.iterdir())).notes == []


def test_images_of_a_single_color(tmp_path: Path) -> None:
    paths = save_photographs(tmp_path, count=4)
    for number in range(3):
        Image.new('RGB', (64, 48), (number, 0, 0)).save(tmp_path / f'black{number}.jpg')
    (note,) = look_at_some(tmp_path, [*paths, *(f'black{number}.jpg' for number in range(3))]).notes
    assert '3 of 7 images looked at are of a single color, for example black0.jpg' in note


def test_what_was_found_is_said_as_a_run_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_photographs(tmp_path, count=6)
    save_label_maps(tmp_path / 'masks', 3, 5)
    (tmp_path / 'list.txt').touch()
    assert len(UnlabeledImages(tmp_path, VIEWS, limit=8)) == 8
    said = capsys.readouterr().out
    assert f'Training on 8 images of {tmp_path}: 9 images; left out: 1 .txt' in said
    assert 'look like label maps' in said
