"""What is drawn, beside torchvision's own draws; and how it is applied."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from scipy import stats
from torchvision import transforms
from torchvision.transforms import functional as reference

from moca.errors import UserError
from moca.images.image_io import open_image
from moca.pretrain.data.views import (
    AugmentedViews,
    CropBox,
    ViewParams,
    ViewRecipe,
    sample_crop,
    sample_jitter,
)
from tests.images.photographs import photograph

DRAWS = 3000
# Seeds are fixed, so these tests cannot fail by chance; a true difference gives far smaller values.
SIGNIFICANCE = 0.001
BYOL = ({'blur_p': 1.0}, {'blur_p': 0.1, 'solarize_p': 0.2})


def assert_same_distribution(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert stats.ks_2samp(ours, theirs).pvalue > SIGNIFICANCE


@pytest.mark.parametrize('scale', [(0.2, 1.0), (0.08, 0.3)])
@pytest.mark.parametrize(('height', 'width'), [(375, 500), (64, 64), (90, 400), (800, 100)])
def test_crops_are_distributed_as_torchvisions(
    height: int, width: int, scale: tuple[float, float]
) -> None:
    ratio = (3 / 4, 4 / 3)
    rng = np.random.default_rng(0)
    boxes = [sample_crop(rng, height, width, scale, ratio) for _ in range(DRAWS)]
    ours = np.array([(box.top, box.left, box.height, box.width) for box in boxes])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        image = torch.empty(3, height, width)
        theirs = np.array(
            [
                transforms.RandomResizedCrop.get_params(image, list(scale), list(ratio))
                for _ in range(DRAWS)
            ]
        )
    for column in range(4):
        assert_same_distribution(ours[:, column], theirs[:, column])
    assert_same_distribution(ours[:, 2] * ours[:, 3], theirs[:, 2] * theirs[:, 3])
    assert_same_distribution(ours[:, 3] / ours[:, 2], theirs[:, 3] / theirs[:, 2])


@pytest.mark.parametrize(('height', 'width'), [(1, 1), (2, 300), (301, 3)])
def test_crops_that_never_fit_are_torchvisions_central_ones(height: int, width: int) -> None:
    # A scale above the image's area cannot be drawn, so that both fall back at once.
    scale, ratio = (1.5, 1.6), (3 / 4, 4 / 3)
    box = sample_crop(np.random.default_rng(0), height, width, scale, ratio)
    expected = transforms.RandomResizedCrop.get_params(
        torch.empty(3, height, width), list(scale), list(ratio)
    )
    assert (box.top, box.left, box.height, box.width) == tuple(expected)


def test_jitter_is_distributed_as_torchvisions() -> None:
    strengths = (0.4, 0.4, 0.2, 0.1)
    rng = np.random.default_rng(0)
    drawn = [sample_jitter(rng, strengths) for _ in range(DRAWS)]
    jitter = transforms.ColorJitter(*strengths)
    ranges = (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = [transforms.ColorJitter.get_params(*ranges) for _ in range(DRAWS)]
    for operator in range(4):
        factors = np.array([dict(steps)[operator] for steps in drawn])
        assert_same_distribution(factors, np.array([draw[1 + operator] for draw in theirs]))
    orders = [tuple(operator for operator, _ in steps) for steps in drawn]
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > SIGNIFICANCE


def test_operators_without_strength_are_left_out() -> None:
    steps = sample_jitter(np.random.default_rng(0), (0.4, 0.0, 0.2, 0.0))
    assert sorted(operator for operator, _ in steps) == [0, 2]


def test_probabilities_and_blur_radius() -> None:
    recipe = ViewRecipe(jitter_p=0.8, gray_p=0.2, blur_p=0.1, solarize_p=0.3, flip_p=0.5)
    rng = np.random.default_rng(0)
    drawn = [recipe.sample(rng, 64, 64) for _ in range(DRAWS)]
    radii = [params.blur_radius for params in drawn if params.blur_radius is not None]
    counts = {
        'jitter_p': sum(bool(params.jitter) for params in drawn),
        'gray_p': sum(params.gray for params in drawn),
        'blur_p': len(radii),
        'solarize_p': sum(params.solarize for params in drawn),
        'flip_p': sum(params.flip for params in drawn),
    }
    for name, count in counts.items():
        assert stats.binomtest(count, DRAWS, getattr(recipe, name)).pvalue > SIGNIFICANCE, name
    assert stats.kstest(radii, stats.uniform(0.1, 1.9).cdf).pvalue > SIGNIFICANCE


@pytest.mark.parametrize('solarize', [False, True])
@pytest.mark.parametrize('gray', [False, True])
def test_operators_are_applied_in_the_recipes_order(gray: bool, solarize: bool) -> None:
    pixels = photograph(160, 200, seed=1)
    params = ViewParams(
        crop=CropBox(10, 20, 120, 90),
        jitter=((1, 1.3), (0, 0.7), (2, 1.2)),
        gray=gray,
        blur_radius=1.2,
        solarize=solarize,
        flip=True,
    )
    ours = ViewRecipe().render(pixels, params, size=64)
    image = reference.resized_crop(Image.fromarray(pixels), 10, 20, 120, 90, [64, 64])
    image = reference.adjust_contrast(image, 1.3)
    image = reference.adjust_brightness(image, 0.7)
    image = reference.adjust_saturation(image, 1.2)
    image = reference.to_grayscale(image, 3) if gray else image
    image = image.filter(ImageFilter.GaussianBlur(1.2))
    image = reference.solarize(image, 128) if solarize else image
    expected = np.asarray(reference.hflip(image)).astype(int)
    difference = np.abs(ours - expected)
    # Solarizing turns a difference of 1 at the threshold into one of 128 - 127 = 1: stays small.
    assert difference.mean() < 1
    assert np.percentile(difference[6:-6, 6:-6], 99.9) <= 4


@pytest.mark.parametrize('size', [32, 64, 224])
def test_views_are_normalized_tensors(size: int) -> None:
    views = AugmentedViews(BYOL, size=size)
    image = photograph(375, 500, seed=2)
    params = views.sample(np.random.default_rng(0), 375, 500)
    rendered = views.render(image, params)
    assert list(rendered) == ['view1', 'view2']
    for view in rendered.values():
        assert view.shape == (3, size, size)
        assert view.dtype == torch.float32
        assert view.is_contiguous()
        assert float(view.min()) >= -2.2
        assert float(view.max()) <= 2.7
    assert not torch.equal(rendered['view1'], rendered['view2'])


def test_one_plain_view_is_a_crop_and_a_flip() -> None:
    plain = {'jitter_p': 0, 'gray_p': 0, 'interpolation': 'bicubic', 'flip_p': 1}
    views = AugmentedViews([plain], size=32)
    pixels = photograph(50, 60, seed=3)
    (params,) = views.sample(np.random.default_rng(0), 50, 60)
    crop = params.crop
    image = reference.resized_crop(
        Image.fromarray(pixels),
        *(crop.top, crop.left, crop.height, crop.width),
        [32, 32],
        reference.InterpolationMode.BICUBIC,
    )
    expected = reference.normalize(
        reference.to_tensor(reference.hflip(image)), list(views.mean), list(views.std)
    )
    rendered = views.render(pixels, [params])
    assert list(rendered) == ['view1']
    # One level of 255, divided by the standard deviation.
    torch.testing.assert_close(rendered['view1'], expected, rtol=0, atol=1.01 / 255 / 0.224)


def crop_params(*sides: int) -> list[ViewParams]:
    return [ViewParams(CropBox(0, 0, side, 900), (), False, None, False, False) for side in sides]


@pytest.mark.parametrize(
    ('sides', 'expected'),
    [((383, 800), 1), ((384, 800), 2), ((800, 767), 2), ((768, 800), 4), ((64, 800), 1)],
)
def test_reduction_leaves_one_and_a_half_times_the_view(
    sides: tuple[int, int], expected: int
) -> None:
    assert AugmentedViews(BYOL, size=128).reduction(crop_params(*sides)) == expected


@pytest.mark.parametrize('size', [64, 224])
def test_reduced_decoding_is_not_noticeable(size: int) -> None:
    """Below one level of 255 on average over views, two in any view; PSNR above 40 dB."""
    file = io.BytesIO()
    Image.fromarray(photograph(1200, 1600, seed=4)).save(file, 'JPEG', quality=92)
    encoded = open_image(file.getvalue())
    views = AugmentedViews([{'jitter_p': 0, 'gray_p': 0, 'flip_p': 0}], size=size)
    rng = np.random.default_rng(0)
    full = encoded.decode()
    reduced = {factor: encoded.decode(factor) for factor in (2, 4, 8)}
    means, used = [], set()
    for _ in range(12):
        (params,) = views.sample(rng, encoded.height, encoded.width)
        factor = views.reduction([params])
        if factor == 1:
            continue
        used.add(factor)
        crop = params.crop.reduced(factor)
        scaled = [factor * side for side in (crop.top, crop.left, crop.height, crop.width)]
        drawn = (params.crop.top, params.crop.left, params.crop.height, params.crop.width)
        assert max(abs(a - b) for a, b in zip(scaled, drawn, strict=True)) <= factor / 2
        expected = views.recipes[0].render(full, replace(params, crop=CropBox(*scaled)), size)
        ours = views.recipes[0].render(reduced[factor], params, size, factor)
        difference = ours.astype(float) - expected
        means.append(np.abs(difference).mean())
        assert means[-1] < 2
        assert 10 * np.log10(255**2 / (difference**2).mean()) > 40
    assert used
    assert np.mean(means) < 1


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ({'blur': 1.0}, "view 2 has no field 'blur'"),
        ({'blur_p': 1.5}, 'blur_p is 1.5'),
        ({'crop_scale': (0.5, 0.2)}, 'crop_scale'),
        ({'crop_scale': (0.2, 1.2)}, 'crop_scale'),
        ({'crop_ratio': (0.0, 1.0)}, 'crop_ratio'),
        ({'jitter': (0.4, 0.4, 0.2, 0.6)}, 'jitter'),
        ({'interpolation': 'nearest'}, "'nearest'"),
        ({'blur_radius': (0.0, 2.0)}, 'blur_radius'),
    ],
)
def test_bad_fields_are_named(fields: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        AugmentedViews([{}, fields])


def test_no_views_and_no_size_are_refused() -> None:
    with pytest.raises(UserError, match='views'):
        AugmentedViews([])
    with pytest.raises(UserError, match='size is 0'):
        AugmentedViews(BYOL, size=0)
