"""Labeled folders: the split, and the resizing beside torchvision's own operators."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision import transforms
from torchvision.datasets import ImageFolder

from moca.errors import UserError
from moca.evaluation.labeled import center, hold_out, read_folder
from tests.images.photographs import photograph


@pytest.mark.parametrize(('height', 'width'), [(333, 500), (601, 377), (256, 256), (120, 90)])
def test_at_224_pixels_it_is_imagenets_recipe(height: int, width: int) -> None:
    image = Image.fromarray(photograph(height, width, seed=0))
    recipe = transforms.Compose(
        [
            transforms.Resize(256, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(224),
        ]
    )
    assert np.array_equal(np.asarray(center(image, (224, 224))), np.asarray(recipe(image)))


def test_a_small_image_of_the_models_size_stays_as_it_is() -> None:
    image = photograph(64, 64, seed=1)
    assert np.array_equal(np.asarray(center(Image.fromarray(image), (64, 64))), image)


def test_a_wide_model_sees_the_whole_height_of_a_square_image_or_less() -> None:
    image = Image.fromarray(photograph(100, 100, seed=2))
    cut = center(image, (32, 64))
    scaled = np.asarray(image.resize((64, 64), Image.Resampling.BICUBIC))
    assert np.array_equal(np.asarray(cut), scaled[16:48])


def write(folder: Path, counts: dict[str, int]) -> Path:
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            Image.new('RGB', (4, 4)).save(folder / name / f'{number:02d}.png')
    return folder


def names(paths: object) -> list[str]:
    return ['/'.join(os.fsdecode(path).split('/')[-2:]) for path in paths]  # type: ignore[attr-defined]


def test_the_last_images_of_each_class_are_held_out(tmp_path: Path) -> None:
    folder = read_folder(write(tmp_path, {'b': 11, 'a': 3, 'single': 1}), 'field')
    rest, split = hold_out(folder, 0.2)
    assert names(split.paths) == ['a/02.png', 'b/09.png', 'b/10.png']
    assert split.labels.tolist() == [0, 1, 1]
    assert names(rest.paths)[-2:] == ['b/08.png', 'single/00.png']
    assert not set(rest.paths.tolist()) & set(split.paths.tolist())
    assert len(rest) + len(split) == 15


def test_singles_cannot_be_held_out(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='one image a class'):
        hold_out(read_folder(write(tmp_path, {'a': 1, 'b': 1}), 'field'), 0.5)


def test_a_class_without_images_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'field .*valid file for the classes empty'):
        read_folder(write(tmp_path, {'a': 2, 'empty': 0}), 'field')


def test_a_folder_above_the_classes_is_refused(tmp_path: Path) -> None:
    for split in ('train', 'val'):
        write(tmp_path / split, {'a': 2, 'b': 2})
    with pytest.raises(UserError, match=rf'folder train holds no images .*{tmp_path}/train'):
        read_folder(tmp_path, 'field')
    assert read_folder(tmp_path / 'train', 'field').classes == ('a', 'b')


def test_images_one_folder_below_their_class(tmp_path: Path) -> None:
    """As Tiny-ImageNet comes; and a class of two kinds, with images of its own."""
    for name in ('n01443537', 'n01629819'):
        write(tmp_path / name, {'images': 3})
    write(tmp_path / 'birds', {'large': 2, 'small': 2})
    Image.new('RGB', (4, 4)).save(tmp_path / 'birds/other.png')
    found = read_folder(tmp_path, 'field')
    assert found.classes == ('birds', 'n01443537', 'n01629819')
    assert np.bincount(found.labels).tolist() == [5, 3, 3]


def test_what_is_not_used_is_said(tmp_path: Path) -> None:
    write(tmp_path, {'a': 2, 'b': 3})
    Image.new('RGB', (4, 4)).save(tmp_path / 'beside.png')
    (tmp_path / 'a/notes.txt').touch()
    (tmp_path / 'b/up').symlink_to(tmp_path)
    found = read_folder(tmp_path, 'field')
    assert names(found.paths) == ['a/00.png', 'a/01.png', 'b/00.png', 'b/01.png', 'b/02.png']
    assert found.about.startswith(f'field {tmp_path}: 5 images of 2 classes; 1 beside the classes')
    assert '1 .txt' in found.about
    assert hold_out(found, 0.5)[0].about == found.about


def test_labels_are_those_of_torchvision(tmp_path: Path) -> None:
    write(tmp_path, {'z/inner': 2, 'b': 11, 'a': 3, 'B': 2})
    expected = ImageFolder(str(tmp_path))
    found = read_folder(tmp_path, 'field')
    assert list(found.classes) == expected.classes
    assert [*zip(map(os.fsdecode, found.paths), found.labels, strict=True)] == expected.samples
