"""Squares of images and label maps, and the lists they come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from moca.errors import UserError
from moca.evaluation.dense.labeled_maps import read_labeled_maps, require_same_classes
from moca.evaluation.dense.squared import RandomView, Squares, SquashPillow, SquashTensor

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
NOTHING: tuple[Any, Any] = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def half_red(height: int = 32, width: int = 64) -> tuple[Any, Any]:
    """A wide image whose left half is red and of class 1."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2, 0] = 255
    return image, (image[..., 0] > 0).astype(np.uint8)


@pytest.mark.parametrize('kind', [SquashTensor, SquashPillow])
def test_the_left_half_stays_left(kind: type[SquashTensor]) -> None:
    image, labels = half_red()
    pixels, squashed = kind(16, *NOTHING)(image, labels, 0)
    assert squashed.tolist() == [[1] * 8 + [0] * 8] * 16
    red = pixels[0, :, [1, 6, 9, 14]]  # beside the border, which is blurred
    torch.testing.assert_close(red, torch.tensor([1.0, 1, 0, 0]).expand(16, 4), atol=0.1, rtol=0)


def test_squashing_is_the_sources() -> None:
    """In-context: normalized tensors, bilinear, antialiased; CAPI: Pillow's bicubic filter."""
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (37, 53, 3), dtype=np.uint8)
    labels = random.integers(0, 5, (37, 53), dtype=np.uint8)
    picture, mask = Image.fromarray(image), Image.fromarray(labels)
    tensor = transforms.Compose(
        [
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
            transforms.Resize((16, 16), antialias=True),
        ]
    )
    found, theirs = SquashTensor(16, MEAN, STD)(image, labels, 0)
    torch.testing.assert_close(found, tensor(picture))
    nearest = transforms.Resize((16, 16), transforms.InterpolationMode.NEAREST)
    wanted = nearest(torch.from_numpy(labels)[None])[0]
    assert torch.equal(theirs, wanted)
    bicubic = transforms.Compose(
        [
            transforms.Resize((16, 16), transforms.InterpolationMode.BICUBIC),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    found, theirs = SquashPillow(16, MEAN, STD)(image, labels, 0)
    torch.testing.assert_close(found, bicubic(picture))
    assert np.array_equal(theirs.numpy(), np.asarray(nearest(mask)))


def test_views_depend_on_seed_epoch_and_image_alone() -> None:
    image, labels = half_red(30, 40)
    state = torch.get_rng_state()
    first = RandomView(16, MEAN, STD, seed=3, epoch=1)(image, labels, 7)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(5)
    again = RandomView(16, MEAN, STD, seed=3, epoch=1)(image, labels, 7)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    for other in (
        RandomView(16, MEAN, STD, seed=4, epoch=1)(image, labels, 7),
        RandomView(16, MEAN, STD, seed=3, epoch=0)(image, labels, 7),
        RandomView(16, MEAN, STD, seed=3, epoch=1)(image, labels, 8),
    ):
        assert not torch.equal(first[0], other[0])


def test_views_show_half_to_all_of_an_image_and_never_mirror_it() -> None:
    """A ramp of labels tells where a view lies; one of areas tells how much it shows."""
    columns = np.tile(np.arange(200, dtype=np.uint8), (150, 1))
    rows = np.tile(np.arange(150, dtype=np.uint8)[:, None], (1, 200))
    image = np.full((150, 200, 3), 90, np.uint8)
    areas, colors = [], []
    for index in range(60):
        view = RandomView(8, *NOTHING, seed=0, epoch=0)
        pixels, x = view(image, columns, index)
        y = view(image, rows, index)[1]
        across, down = x[0].float().diff(), y[:, 0].float().diff()
        assert (across > 0).all()
        assert (down > 0).all()
        areas.append(float(across.mean() * 8 * down.mean() * 8) / (150 * 200))
        colors.append(float(pixels.mean()))
    assert min(areas) > 0.4  # half, give or take a pixel of the grid
    assert max(areas) < 1.1
    assert 0.65 < np.mean(areas) < 0.8  # 71 % measured for 4:3
    assert np.std(colors) > 0.005  # jittered
    assert min(areas) < 0.7


# ---------------------------------------------------------------- lists


def write_maps(root: Path, values: list[int], size: tuple[int, int] = (8, 12)) -> None:
    (root / 'images').mkdir(parents=True)
    (root / 'labels').mkdir()
    for number, value in enumerate(values):
        labels = np.zeros(size, np.uint8)
        labels[:, 6:] = value
        cv2.imwrite(str(root / f'images/{number}.png'), np.full((*size, 3), 20 * number, np.uint8))
        cv2.imwrite(str(root / f'labels/{number}.png'), labels)


def config(root: Path, **fields: Any) -> dict[str, Any]:
    base = dict(
        type='BaseSegDataset',
        data_root=str(root),
        data_prefix=dict(img_path='images', seg_map_path='labels'),
        img_suffix='.png',
        seg_map_suffix='.png',
        metainfo=dict(classes=('ground', 'tree', 'car')),
    )
    return {**base, **fields}


def test_lists_files_and_indices_choose_images(tmp_path: Path) -> None:
    write_maps(tmp_path, [1, 2, 255, 1])
    maps = read_labeled_maps(config(tmp_path), 'evaluation.train')
    assert len(maps) == 4
    assert maps.num_classes == 3
    assert maps.names == ('ground', 'tree', 'car')
    image, labels = maps.read(2)
    assert image[0, 0].tolist() == [40] * 3
    assert labels[0].tolist() == [0] * 6 + [255] * 6
    (tmp_path / 'few.txt').write_text('3\n1\n')
    few = read_labeled_maps(config(tmp_path, ann_file='few.txt'), 'evaluation.train')
    assert sorted(Path(few.image_name(i)).name for i in range(2)) == ['1.png', '3.png']
    some = read_labeled_maps(config(tmp_path, indices=[2, 0]), 'evaluation.train')
    assert [Path(some.image_name(i)).name for i in range(2)] == ['2.png', '0.png']
    squares = Squares(some, SquashTensor(4, *NOTHING))
    assert len(squares) == 2
    assert squares[0][1].tolist() == [[0, 0, 255, 255]] * 4


def test_parts_are_laid_together_and_each_read_by_its_rule(tmp_path: Path) -> None:
    write_maps(tmp_path / 'a', [1, 2])
    write_maps(tmp_path / 'b', [7, 9])
    loading = dict(type='LoadCheckedAnnotations', ids=[0, 7, 9])
    both = dict(
        type='ConcatDataset',
        datasets=[config(tmp_path / 'a'), config(tmp_path / 'b', pipeline=[loading])],
    )
    maps = read_labeled_maps(both, 'evaluation.train')
    assert [int(maps.read(i)[1][0, 11]) for i in range(4)] == [1, 2, 1, 2]
    one = read_labeled_maps(config(tmp_path / 'a'), 'evaluation.train')
    require_same_classes(maps, one, ('evaluation.train', 'evaluation.val'))


def test_faults_name_the_field_and_what_was_looked_for(tmp_path: Path) -> None:
    write_maps(tmp_path, [1, 2])
    nowhere = dict(img_path='nowhere', seg_map_path='labels')
    for fields, message in (
        (dict(data_prefix=nowhere), r'nowhere: no such folder \(evaluation\.train\.data_prefix'),
        (dict(data_prefix=dict(img_path='images')), 'names no folder of label maps'),
        (dict(metainfo=dict(classes=('ground', 'tree'))), r'1\.png: holds 2'),
        (dict(img_suffix='.jpg'), r'\.jpg'),
    ):
        with pytest.raises(UserError, match=message):
            read_labeled_maps(config(tmp_path, **fields), 'evaluation.train')
    one = read_labeled_maps(config(tmp_path), 'evaluation.train')
    four = config(tmp_path, metainfo=dict(classes=('ground', 'tree', 'car', 'sky')))
    other = read_labeled_maps(four, 'evaluation.val')
    with pytest.raises(UserError, match=r'evaluation\.train has 3 classes and evaluation\.val 4'):
        require_same_classes(one, other, ('evaluation.train', 'evaluation.val'))
