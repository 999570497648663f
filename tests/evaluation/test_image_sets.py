"""Labeled images of every layout, and what is wrong with them, said before anything long runs."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets, transforms

from moca.errors import UserError
from moca.evaluation.image_sets import (
    check_apart,
    check_files_apart,
    draw_per_class,
    file_states,
    read_image_set,
)
from moca.evaluation.labeled import center
from tests.images.photographs import photograph


def write(folder: Path, classes: dict[str, int], seed: int = 0) -> Path:
    random = np.random.default_rng(seed)
    for name, count in classes.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f'{number}.png')
    return folder


def write_cifar(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CIFAR-10's files with two images each; what torchvision checks is their digest."""
    monkeypatch.setattr(datasets.CIFAR10, '_check_integrity', lambda _: True)
    monkeypatch.setattr('torchvision.datasets.cifar.check_integrity', lambda *_: True)
    folder = root / 'cifar-10-batches-py'
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    names = [name for name, _ in datasets.CIFAR10.train_list + datasets.CIFAR10.test_list]
    for name in names:
        data = random.integers(0, 256, (2, 3072), dtype=np.uint8)
        (folder / name).write_bytes(pickle.dumps({'data': data, 'labels': [3, 1]}))
    labels = [f'class{number}' for number in range(10)]
    (folder / 'batches.meta').write_bytes(pickle.dumps({'label_names': labels}))


def test_cifar_is_read_from_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar(tmp_path, monkeypatch)
    train = read_image_set(tmp_path, 'train', 'bank')
    assert len(train) == 10
    assert train.labels.tolist() == [3, 1] * 5
    expected = datasets.CIFAR10(str(tmp_path), train=True)
    assert np.array_equal(np.asarray(train.image(7)), np.asarray(expected[7][0]))
    part = train.part([7])
    assert np.array_equal(np.asarray(part.image(0)), np.asarray(expected[7][0]))
    test = read_image_set(tmp_path, 'test', 'queries')
    check_apart(train, test, ('bank', 'queries'))
    with pytest.raises(UserError, match='queries: 10 of its 10 images are in bank'):
        check_apart(train, train, ('bank', 'queries'))
    assert len({file_states(train), file_states(test)}) == 2
    with pytest.raises(UserError, match=r"split='val' of cifar-10-batches-py\. Give train or"):
        read_image_set(tmp_path, 'val', 'queries')


def test_cifar_that_is_not_there_or_not_whole(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'has no folder .train. .* cifar-10-batches-py'):
        read_image_set(tmp_path, 'train', 'evaluation.bank')
    (tmp_path / 'cifar-100-python').mkdir()
    with pytest.raises(UserError, match='cifar-100-python is not complete'):
        read_image_set(tmp_path, 'train', 'evaluation.bank')


def test_the_flat_val_of_tiny_imagenet_has_the_classes_of_train(tmp_path: Path) -> None:
    write(tmp_path / 'train', {'n01': 2, 'n02': 2, 'n03': 1})
    write(tmp_path / 'val', {'images': 3}, seed=1)
    listed = '1.png\tn03\t0\t0\t3\t3\n0.png\tn01\t0\t0\t3\t3\n2.png\tn03\t0\t0\t3\t3\n'
    annotations = tmp_path / 'val/val_annotations.txt'
    with pytest.raises(UserError, match='the folder images alone and no val_annotations'):
        read_image_set(tmp_path, 'val', 'queries')
    annotations.write_text(listed)
    val = read_image_set(tmp_path, 'val', 'queries')
    assert [os.path.basename(os.fsdecode(path)) for path in val.paths] == [
        '0.png',
        '1.png',
        '2.png',
    ]
    assert val.labels.tolist() == [0, 2, 2]
    assert val.classes == ('n01', 'n02', 'n03')
    for text, message in (
        (listed + '9.png\tn01\t0', 'names 9.png, which is not in'),
        (listed + '1.png\tn09\t0', 'has no class n09'),
        ('0.png n01\n', 'line 1: no file name and class'),
    ):
        annotations.write_text(text)
        with pytest.raises(UserError, match=message):
            read_image_set(tmp_path, 'val', 'queries')


def test_images_of_the_bank_among_the_queries_are_found(tmp_path: Path) -> None:
    """Files of other names and folders, but the same bytes."""
    bank = write(tmp_path / 'bank', {'a': 3, 'b': 3})
    queries = write(tmp_path / 'queries', {'a': 2, 'b': 2}, seed=1)
    sets = [read_image_set(root, '', 'set') for root in (bank, queries)]
    check_apart(*sets, ('bank', 'queries'))
    (queries / 'b/1.png').write_bytes((bank / 'a/2.png').read_bytes())
    sets = [read_image_set(root, '', 'set') for root in (bank, queries)]
    with pytest.raises(UserError, match=r'queries: .*b/1.png is the image .*a/2.png of bank'):
        check_apart(*sets, ('bank', 'queries'))


def test_few_twins_are_said_and_kept(tmp_path: Path) -> None:
    """Published sets have some: one of 100 queries is said, two are refused."""
    (tmp_path / 'bank').mkdir()
    (tmp_path / 'queries').mkdir()
    for folder, offset in (('bank', 0), ('queries', 100)):
        for number in range(100):
            (tmp_path / folder / f'{number}').write_bytes(bytes([number, offset]) * 8)
    bank, queries = (
        np.array([os.fsencode(tmp_path / folder / f'{n}') for n in range(100)])
        for folder in ('bank', 'queries')
    )
    (tmp_path / 'queries/7').write_bytes((tmp_path / 'bank/9').read_bytes())
    with mock.patch('moca.evaluation.image_sets.print_log') as said:
        check_files_apart(bank, queries, ('bank', 'queries'))
    assert 'queries: of its images, 1 compared equal to one of bank' in said.call_args.args[0]
    (tmp_path / 'queries/8').unlink()
    (tmp_path / 'queries/8').hardlink_to(tmp_path / 'bank/8')
    with pytest.raises(UserError, match=r'queries/[78] is the image'):
        check_files_apart(bank, queries, ('bank', 'queries'))


def test_some_images_of_each_class_are_nested_and_follow_their_seed(tmp_path: Path) -> None:
    images = read_image_set(write(tmp_path, {'a': 5, 'b': 4}), '', 'set')
    one, two, four = (set(draw_per_class(images, k, 3, 'shots').tolist()) for k in (1, 2, 4))
    assert one < two < four
    assert np.bincount(images.labels[list(two)]).tolist() == [2, 2]
    other = set(draw_per_class(images, 2, 4, 'shots').tolist())
    assert other != two
    assert len(draw_per_class(images, None, 3, 'shots')) == 9
    with pytest.raises(UserError, match='shots=5: class b has 4 images'):
        draw_per_class(images, 5, 0, 'shots')


def test_draws_are_of_images_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """The first k of a permutation of files 0, 1, 2, ..., 11; a listing has 0, 1, 10, 11, 2."""
    images = read_image_set(write(tmp_path, {'a': 12, 'b': 12}), '', 'set')
    generator = torch.Generator().manual_seed(5)
    drawn = [torch.randperm(12, generator=generator)[:4].tolist() for _ in range(2)]
    expected = [
        f'{name}/{number}.png' for name, few in zip('ab', drawn, strict=True) for number in few
    ]
    found = images.paths[draw_per_class(images, 4, 5, 'shots')]
    assert [os.path.relpath(os.fsdecode(path), tmp_path) for path in found] == expected


def test_a_file_that_changes_changes_the_digest(tmp_path: Path) -> None:
    images = read_image_set(write(tmp_path, {'a': 2}), '', 'set')
    before = file_states(images)
    assert file_states(images) == before
    os.utime(tmp_path / 'a/1.png', ns=(1, 1))
    assert file_states(images) != before


@pytest.mark.parametrize(('size', 'resized'), [(224, 256), (256, 292), (384, 438)])
def test_the_resized_side_is_cut_to_whole_pixels(size: int, resized: int) -> None:
    """As MAE and timm have it: int(size / .875), which rounding would make 293 for 256."""
    image = Image.fromarray(photograph(300, 400, seed=0))
    for name, mode in (
        ('bicubic', transforms.InterpolationMode.BICUBIC),
        ('bilinear', transforms.InterpolationMode.BILINEAR),
    ):
        recipe = transforms.Compose([transforms.Resize(resized, mode), transforms.CenterCrop(size)])
        found = center(image, (size, size), 0.875, name)
        assert np.array_equal(np.asarray(found), np.asarray(recipe(image))), name
    whole = center(image, (size, size), 1.0)
    assert np.array_equal(
        np.asarray(whole),
        np.asarray(
            transforms.CenterCrop(size)(
                transforms.Resize(size, transforms.InterpolationMode.BICUBIC)(image)
            )
        ),
    )
