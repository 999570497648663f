"""Each operator beside PIL's own, within the differences that moca/images/transforms.py states."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from torchvision.transforms import functional as reference
from torchvision.transforms.functional import InterpolationMode

from moca.images import transforms
from moca.images.transforms import Pixels
from tests.images.photographs import photograph

PHOTOGRAPHS = [photograph(160, 200, seed) for seed in range(4)]


def assert_close(
    ours: Callable[[Pixels], Pixels],
    pil: Callable[[Image.Image], Image.Image],
    largest: int,
    mean: float,
) -> None:
    for image in PHOTOGRAPHS:
        before = image.copy()
        result = ours(image).astype(int)
        expected = np.asarray(pil(Image.fromarray(image)))
        np.testing.assert_array_equal(image, before, err_msg='the input was written to')
        assert result.shape == expected.shape
        difference = np.abs(result - expected)
        assert difference.max() <= largest
        assert difference.mean() <= mean


@pytest.mark.parametrize('interpolation', ['bilinear', 'bicubic'])
@pytest.mark.parametrize('size', [32, 64, 150, 224])
@pytest.mark.parametrize('box', [(0, 0, 160, 200), (11, 20, 101, 57), (3, 5, 20, 31)])
def test_resize_is_antialiased_as_pil(box: tuple[int, ...], size: int, interpolation: str) -> None:
    top, left, height, width = box
    mode = InterpolationMode(interpolation)
    assert_close(
        lambda pixels: transforms.resize(
            pixels[top : top + height, left : left + width], size, interpolation
        ),
        lambda image: reference.resized_crop(image, top, left, height, width, [size, size], mode),
        # Bicubic overshoots, and the two libraries round and clip in another order of axes.
        largest=1 if interpolation == 'bilinear' else 6,
        mean=0.16,
    )


@pytest.mark.parametrize('factor', [0.6, 0.87, 1.0, 1.4])
def test_brightness(factor: float) -> None:
    assert_close(
        lambda pixels: transforms.adjust_brightness(pixels, factor),
        lambda image: reference.adjust_brightness(image, factor),
        largest=0,
        mean=0,
    )


@pytest.mark.parametrize('factor', [0.6, 0.87, 1.0, 1.4])
def test_contrast(factor: float) -> None:
    assert_close(
        lambda pixels: transforms.adjust_contrast(pixels, factor),
        lambda image: reference.adjust_contrast(image, factor),
        largest=1,
        mean=0.01,
    )


@pytest.mark.parametrize('factor', [0.8, 0.93, 1.0, 1.2])
def test_saturation(factor: float) -> None:
    assert_close(
        lambda pixels: transforms.adjust_saturation(pixels, factor),
        lambda image: reference.adjust_saturation(image, factor),
        largest=1,
        mean=0.6,
    )


@pytest.mark.parametrize('factor', [-0.1, -0.037, 0.0, 0.05, 0.1])
def test_hue(factor: float) -> None:
    assert_close(
        lambda pixels: transforms.adjust_hue(pixels, factor),
        lambda image: reference.adjust_hue(image, factor),
        largest=12,
        mean=1.3,
    )


def test_gray() -> None:
    assert_close(
        transforms.to_gray, lambda image: reference.to_grayscale(image, 3), largest=1, mean=0.01
    )


def test_solarize_and_flip() -> None:
    assert_close(transforms.solarize, lambda image: reference.solarize(image, 128), 0, 0)
    assert_close(transforms.flip, reference.hflip, 0, 0)


@pytest.mark.parametrize('radius', [0.1, 0.3, 0.7, 1.0, 1.4, 2.0])
def test_blur(radius: float) -> None:
    def pil(image: Image.Image) -> Image.Image:
        return image.filter(ImageFilter.GaussianBlur(radius))

    assert_close(lambda pixels: transforms.gaussian_blur(pixels, radius), pil, largest=25, mean=0.9)
    assert_close(
        lambda pixels: transforms.gaussian_blur(pixels, radius)[8:-8, 8:-8],
        lambda image: pil(image).crop((8, 8, image.width - 8, image.height - 8)),
        largest=3,
        mean=0.9,
    )


@pytest.mark.parametrize('radius', [0.1, 0.5, 1.0, 2.0])
def test_blur_kernel_has_the_variance_of_the_gaussian(radius: float) -> None:
    kernel = transforms.blur_kernel(radius).astype(np.float64)
    offsets = np.arange(len(kernel)) - len(kernel) // 2
    assert kernel.sum() == pytest.approx(1, abs=1e-6)
    assert (kernel * offsets).sum() == pytest.approx(0, abs=1e-6)
    assert (kernel * offsets**2).sum() == pytest.approx(radius**2, rel=1e-5)


def test_normalize_is_to_tensor_and_normalize() -> None:
    for image in PHOTOGRAPHS:
        tensor = reference.to_tensor(Image.fromarray(image))
        expected = reference.normalize(tensor, transforms.IMAGENET_MEAN, transforms.IMAGENET_STD)
        ours = transforms.normalize(image, transforms.IMAGENET_MEAN, transforms.IMAGENET_STD)
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-6)
