"""Labeled images for training and testing: labels, held-out images, sets of ImageNet's classes."""

from __future__ import annotations

import json
import shutil
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import ImageNetInfo
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from moca.engine.epoch_order import Draw
from moca.errors import UserError
from moca.evaluation.classification.class_lists import (
    check_same_classes,
    kept_classes,
    real_labels,
    variant_labels,
)
from moca.evaluation.classification.dataset import LabeledImages, held_out_places
from moca.images.corrupt import REPORT, CorruptImages
from tests.configs.image_helpers import prepare, tiny_config
from tests.evaluation.classification.conftest import write_images

CROP = dict(type='CropAndFlip', crop='padded')


def test_a_view_is_a_function_of_the_draw(images: Path) -> None:
    dataset = LabeledImages(images, size=16, augmentation=CROP)
    first = dataset[Draw(5, epoch=1, seed=2)]
    np.random.random()
    torch.rand(3)
    again = dataset[Draw(5, epoch=1, seed=2)]
    assert torch.equal(first['inputs'], again['inputs'])
    others = [dataset[Draw(5, epoch=e, seed=s)]['inputs'] for e, s in ((2, 2), (1, 3))]
    assert not any(torch.equal(first['inputs'], other) for other in others)
    assert (first['label'], first['index'], first['held_out']) == (0, 5, False)


@pytest.mark.parametrize('how', ['bicubic', 'bilinear'])
def test_testing_cuts_as_torchvision_does(how: str, tmp_path: Path) -> None:
    (tmp_path / 'val' / 'a').mkdir(parents=True)
    (tmp_path / 'val' / 'b').mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    for name in 'ab':
        Image.fromarray(pixels).save(tmp_path / 'val' / name / '0.png')
    theirs = transforms.Compose(
        [
            transforms.Resize(256, interpolation=InterpolationMode(how)),
            transforms.CenterCrop(224),
        ]
    )
    ours = LabeledImages(tmp_path, 'val', 224, interpolation=how)[0]['inputs']
    assert np.array_equal(ours.permute(1, 2, 0), np.asarray(theirs(Image.fromarray(pixels))))


def test_what_cannot_be_decoded_is_replaced_in_training_and_ends_tests(
    images: Path, tmp_path: Path
) -> None:
    shutil.copytree(images, tmp_path / 'images')
    for number in (3, 4):
        (tmp_path / f'images/train/bee/{number:02d}.png').write_bytes(b'\x89PNG')
    dataset = LabeledImages(tmp_path / 'images', size=16, augmentation=CROP, skip=True)
    place = dataset.paths.index(str(tmp_path / 'images/train/bee/03.png'))
    sample = dataset[Draw(place, epoch=1, seed=2)]
    assert sample['corrupt_index'] == place
    assert sample['index'] not in (place, place + 1)
    assert sample['label'] == dataset.images.labels[sample['index']]
    assert torch.equal(sample['inputs'], dataset[Draw(place, epoch=1, seed=2)]['inputs'])
    assert dataset[Draw(0)]['corrupt_index'] == -1
    with pytest.raises(UserError, match=r'bee/03\.png: cannot be decoded'):
        LabeledImages(tmp_path / 'images', size=16)[place]

    # one of 64 is skipped, two are more than a hundredth
    logger = mock.Mock()
    loader = SimpleNamespace(dataset=dataset, sampler=SimpleNamespace(group=4))
    runner: Any = SimpleNamespace(
        work_dir=str(tmp_path), iter=0, train_dataloader=loader, logger=logger
    )
    hook = CorruptImages(max_share=0.01)
    hook.before_train(runner)
    hook.after_train_iter(runner, 0, {'corrupt_index': torch.tensor([-1, place])})
    assert 'bee/03.png' in (tmp_path / REPORT).read_text()
    assert 'Corrupt image 1 of 64, skipped' in logger.warning.call_args.args[0]
    with pytest.raises(UserError, match=r'2 of 64 images cannot be decoded, more than 1\.00%'):
        hook.after_train_iter(runner, 1, {'corrupt_index': torch.tensor([place + 1])})


def test_held_out_images(images: Path) -> None:
    train = LabeledImages(images, size=16, augmentation=CROP, held_out=2)
    test = LabeledImages(images, 'val', size=16, held_out=2)
    assert (len(train), len(test), test.scored) == (4 * 14, 4 * 3 + 4 * 2, 12)
    left = {Path(p.decode()) for p in test.images.paths[test.held_out]}
    assert left == {
        images / 'train' / c / f'{n}.png' for c in ('ant', 'bee', 'cow', 'dog') for n in (14, 15)
    }
    assert not left & {Path(p.decode()) for p in train.images.paths}
    # without augmentation, as heads on features of a cache are trained
    assert len(LabeledImages(images, size=16, held_out=2)) == len(train)


@pytest.mark.parametrize(
    ('size', 'above', 'share', 'kept'),
    [(224, 224, None, 224), (384, 224, None, 256), (384, None, None, 224), (384, 224, 0.5, 128)],
)
def test_how_much_of_an_image_is_kept_at_a_size(
    size: int, above: int | None, share: float | None, kept: int, tmp_path: Path
) -> None:
    """An image whose red is its column: the columns at the edges tell how many are kept of 256."""
    (tmp_path / 'ant').mkdir()
    pixels = np.zeros((256, 256, 3), np.uint8)
    pixels[..., 0] = np.arange(256)
    Image.fromarray(pixels).save(tmp_path / 'ant/0.png')
    dataset = LabeledImages(tmp_path, '', size=size, share=share, whole_above=above)
    red = dataset[0]['inputs'][0, 0].tolist()
    assert red[-1] - red[0] + 1 == pytest.approx(kept, abs=3)


def test_a_share_is_rounded_and_never_all() -> None:
    labels = np.array([0] * 12 + [1] * 3)
    assert held_out_places(labels, 0.1).tolist() == [11, 14]
    assert held_out_places(labels, 2).tolist() == [10, 11, 13, 14]
    with pytest.raises(UserError, match='class 1 has 3 training images'):
        held_out_places(labels, 3)


def test_features_take_the_place_of_images(images: Path) -> None:
    dataset = LabeledImages(images, 'val', size=16)
    dataset.features = torch.arange(24.0).view(12, 2)
    sample = dataset[3]
    assert 'inputs' not in sample
    assert torch.equal(sample['features'], torch.tensor([6.0, 7.0]))
    assert sample['label'] == 1


class TestSetsOfImageNetsClasses:
    def test_folders_of_numbers_are_not_counted_as_text(self, tmp_path: Path) -> None:
        write_images(tmp_path, ['0', '1', '10', '2'], 1, side=4)
        dataset = LabeledImages(tmp_path, '', size=4, variant='imagenet-v2')
        labels = {Path(p.decode()).parent.name: dataset[i]['label']
                  for i, p in enumerate(dataset.images.paths)}  # fmt: skip
        assert labels == {'0': 0, '1': 1, '10': 10, '2': 2}
        assert len(dataset.classes) == 1000

    def test_synsets_have_their_places(self) -> None:
        names = ImageNetInfo().label_names()
        assert variant_labels('imagenet-sketch', ['n01440764', 'n15075141'], 'x') == [0, 999]
        assert names[1] == 'n01443537'  # the goldfish
        with pytest.raises(UserError, match="'n1' is no class"):
            variant_labels('imagenet-sketch', ['n1'], 'x')

    @pytest.mark.parametrize('name', ['imagenet-a', 'imagenet-r'])
    def test_sets_of_200(self, name: str) -> None:
        kept = kept_classes(name)
        assert kept is not None
        assert len(kept) == len({*kept}) == 200
        outside = next(n for i, n in enumerate(ImageNetInfo().label_names()) if i not in kept)
        with pytest.raises(UserError, match='is no class of'):
            variant_labels(name, [outside], 'x')

    def test_real_labels(self) -> None:
        names = [f'ILSVRC2012_val_{n:08d}.JPEG' for n in (1, 2, 3)]
        table = resources.files('timm.data').joinpath('_info', 'imagenet_real_labels.json')
        assert real_labels(names, 'x') == json.loads(table.read_text())[:3]
        with pytest.raises(UserError, match="no image of ImageNet's validation set"):
            real_labels(['a.png'], 'x')


@pytest.mark.parametrize(
    ('other', 'said'),
    [
        (['a', 'c', 'b'], "has 'c' for 'b' at place 1"),
        (['a', 'b'], "lacks 'c'"),
        (['a', 'b', 'c', 'd'], "also has 'd'"),
    ],
)
def test_class_lists_that_differ(other: list[str], said: str) -> None:
    check_same_classes(['a', 'b', 'c'], ['a', 'b', 'c'], 'train', 'val')
    with pytest.raises(UserError, match=said):
        check_same_classes(['a', 'b', 'c'], other, 'train', 'val')


class TestBadRuns:
    """Each is refused before a model is built."""

    def refused(
        self, images: Path, folder: Path, said: str, classes: int = 4, **options: Any
    ) -> None:
        config = tiny_config('finetune', folder, classes)
        with pytest.raises(UserError, match=said):
            prepare(config, images, folder / 'run', **options)

    def test_heads(self, images: Path, tmp_path: Path) -> None:
        self.refused(images, tmp_path, r'4 classes, and the head is of 7\. Give', classes=7)
        self.refused(
            images, tmp_path, '4 classes. Give --cfg-options', model__head__num_classes='None'
        )

    def test_the_same_folder_twice(self, images: Path, tmp_path: Path) -> None:
        self.refused(
            images, tmp_path, 'both what is trained', val_dataloader__dataset__split='train'
        )

    def test_a_copy_of_a_training_image(self, images: Path, tmp_path: Path) -> None:
        write_images(tmp_path / 'data/train', ['ant', 'bee'], 3)
        write_images(tmp_path / 'data/val', ['ant', 'bee'], 2, seed=1)
        copied = (tmp_path / 'data/train/ant/00.png').read_bytes()
        (tmp_path / 'data/val/ant/00.png').write_bytes(copied)
        self.refused(tmp_path / 'data', tmp_path, 'byte for byte', classes=2)

    def test_no_folder(self, images: Path, tmp_path: Path) -> None:
        self.refused(images, tmp_path, "no folder 'odd'", val_dataloader__dataset__split='odd')

    def test_an_odd_batch_of_mixup(self, images: Path, tmp_path: Path) -> None:
        self.refused(images, tmp_path, 'it has to be even', train_dataloader__batch_size=15)

    def test_another_size_than_the_backbones(self, images: Path, tmp_path: Path) -> None:
        self.refused(images, tmp_path, 'is built for 32', model__backbone__img_size=32)
