"""Random views: torchvision's and timm's operations, zero bits of Pillow 13, erased boxes."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, create_transform
from timm.data.random_erasing import RandomErasing
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from moca.engine.seeding import seeded
from moca.errors import UserError
from moca.evaluation.classification.augmentation import (
    CropAndFlip,
    SingleDrawCrop,
    posterize,
    timm_steps,
)


@pytest.fixture(scope='module')
def image() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_zero_bits_are_black(image: Image.Image) -> None:
    assert not np.asarray(posterize(image, 0)).any()
    assert posterize(image, 8) is image
    ours = np.asarray(posterize(image, 3))
    assert np.array_equal(ours, np.asarray(image) & 0b11100000)


def test_no_operation_fails_in_thousands(image: Image.Image) -> None:
    """timm's own fails at zero bits with Pillow 13, about once in 600 images of two operations."""
    small = image.resize((8, 8))
    _, policy = timm_steps('rand-m9-mstd0.5-inc1', 8, 'bicubic')
    drawn: list[int] = []

    def counted(image: Image.Image, bits: int, **others: object) -> Image.Image:
        drawn.append(bits)
        return posterize(image, bits, **others)

    randaugment = policy.transforms[0]  # type: ignore[attr-defined]
    (operation,) = [op for op in randaugment.ops if op.aug_fn is posterize]
    operation.aug_fn = counted
    with seeded(0):
        for _ in range(3000):
            assert policy(small).size == (8, 8)
    assert drawn.count(0) >= 1  # else the test would not have seen it


def test_policy_is_timms(image: Image.Image) -> None:
    transform = create_transform(
        32,
        is_training=True,
        auto_augment='rand-m9-mstd0.5-inc1',
        interpolation='bicubic',
        color_jitter=None,
        re_prob=0.0,
    )
    ours = CropAndFlip(32, 'resized', 'bicubic', 'rand-m9-mstd0.5-inc1')
    for seed in range(12):
        with seeded(seed):
            theirs = transform(image)
        with seeded(seed):
            mine = transforms.functional.to_tensor(ours(image))
        normalized = transforms.functional.normalize(
            mine, IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
        )
        assert torch.equal(normalized, theirs)


def test_a_policy_that_is_none() -> None:
    with pytest.raises(UserError, match='timm has no such policy'):
        timm_steps('random', 8, 'bicubic')


@pytest.mark.parametrize('how', ['bilinear', 'bicubic'])
def test_resized_crop_is_torchvisions(image: Image.Image, how: str) -> None:
    theirs = transforms.Compose(
        [
            transforms.RandomResizedCrop(24, interpolation=InterpolationMode(how)),
            transforms.RandomHorizontalFlip(),
        ]
    )
    ours = CropAndFlip(24, 'resized', how)
    for seed in range(4):
        with seeded(seed):
            expected = np.asarray(theirs(image))
        with seeded(seed):
            assert np.array_equal(np.asarray(ours(image)), expected)


def test_single_draw_crop(image: Image.Image) -> None:
    """Each draw is taken, cut to the image: no second try and no center."""
    crop = SingleDrawCrop([16, 16], InterpolationMode.BICUBIC)
    expected = []
    for seed in range(30):
        random.seed(seed)
        area = 40 * 56 * random.uniform(0.08, 1.0)
        ratio = np.exp(random.uniform(np.log(3 / 4), np.log(4 / 3)))
        width = min(round((area * ratio) ** 0.5), 56)
        height = min(round((area / ratio) ** 0.5), 40)
        top, left = random.randint(0, 40 - height), random.randint(0, 56 - width)
        expected.append((left, top, left + width, top + height))
    assert any(box[3] - box[1] == 40 for box in expected)
    for seed, box in enumerate(expected):
        random.seed(seed)
        ours = np.asarray(crop(image))
        assert np.array_equal(ours, np.asarray(image.crop(box).resize((16, 16), 3)))


def test_padded_crop_shifts_by_four(image: Image.Image) -> None:
    small = image.resize((8, 8))
    padded = np.pad(np.asarray(small), ((4, 4), (4, 4), (0, 0)))
    places = [padded[y : y + 8, x : x + 8] for y in range(9) for x in range(9)]
    places += [place[:, ::-1] for place in places]
    crop = CropAndFlip(8, 'padded')
    with seeded(0):
        for _ in range(5):
            view = np.asarray(crop(small))
            assert any(np.array_equal(view, place) for place in places)


def test_wrong_arguments() -> None:
    with pytest.raises(UserError, match='neither bilinear nor bicubic'):
        CropAndFlip(8, interpolation='nearest')
    with pytest.raises(UserError, match=r"crop='center' is none of"):
        CropAndFlip(8, crop='center')


def test_erased_boxes_are_noise_of_deviation_one() -> None:
    """As an `ImageClassifier` erases: after normalization, each pixel drawn for itself."""
    with seeded(0):
        erased = RandomErasing(1.0, mode='pixel', device='cpu')(torch.full((8, 3, 64, 64), 7.0))
    changed = erased != 7
    assert changed.any(dim=(1, 2, 3)).all()
    assert float(erased[changed].std()) == pytest.approx(1.0, abs=0.05)
