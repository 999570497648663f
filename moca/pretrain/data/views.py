"""The random views of an image that a pre-training method compares."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, get_args

import numpy as np
from mmengine.registry import TRANSFORMS
from torch import Tensor

from moca.engine.renamed import new_name
from moca.errors import UserError
from moca.images import transforms
from moca.images.transforms import IMAGENET_MEAN, IMAGENET_STD, Interpolation, Pixels
from moca.pretrain.data.colors import packed

# The order of torchvision's ColorJitter arguments; they are applied in random order.
_JITTER_OPERATORS: tuple[Callable[[Pixels, float], Pixels], ...] = (
    transforms.adjust_brightness,
    transforms.adjust_contrast,
    transforms.adjust_saturation,
    transforms.adjust_hue,
)


@dataclass(frozen=True)
class CropBox:
    """A rectangle in pixels."""

    top: int
    left: int
    height: int
    width: int

    def reduced(self, factor: int) -> CropBox:
        """The box in an image decoded at ``1 / factor``, rounded to whole pixels of it."""
        return CropBox(*(round(side / factor) for side in self._sides()))

    def cut(self, image: Pixels) -> Pixels:
        """The part of ``image`` in the box, without copying."""
        top, left, height, width = self._sides()
        return image[top : top + height, left : left + width]

    def _sides(self) -> tuple[int, int, int, int]:
        return self.top, self.left, self.height, self.width


@dataclass(frozen=True)
class ViewParams:
    """What was drawn for one view.

    Attributes:
        crop: The rectangle that is resized to the view, in pixels of the full-size image.
        jitter: (index into brightness, contrast, saturation, hue; factor) in the order of
            application; empty without jitter.
        blur_radius: In pixels of the view; None without blur.
    """

    crop: CropBox
    jitter: tuple[tuple[int, float], ...]
    gray: bool
    blur_radius: float | None
    solarize: bool
    flip: bool


@dataclass(frozen=True)
class ViewRecipe:
    """The augmentations of one view, in the order in which they are applied.

    The default values are those that BYOL's two views share (arXiv 2006.07733, table 6, as used by
    MOCA with crops from 20 % of the area); probabilities that differ between its views are 0.

    Attributes:
        crop_scale: Share of the image's area that a crop covers.
        crop_ratio: Width over height of a crop.
        interpolation: 'bilinear' or 'bicubic', antialiased.
        jitter: Strengths of brightness, contrast, saturation and hue.
        jitter_p: Probability of the color jitter; the others alike.
        blur_radius: Range of PIL's blur radius in pixels of the view.
        solarize_threshold: Values from here on are inverted.
    """

    crop_scale: tuple[float, float] = (0.2, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: Interpolation = 'bilinear'
    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.2, 0.1)
    jitter_p: float = 0.8
    gray_p: float = 0.2
    blur_p: float = 0.0
    blur_radius: tuple[float, float] = (0.1, 2.0)
    solarize_p: float = 0.0
    solarize_threshold: int = 128
    flip_p: float = 0.5

    def __post_init__(self) -> None:
        for name in ('jitter_p', 'gray_p', 'blur_p', 'solarize_p', 'flip_p'):
            value = getattr(self, name)
            require(0 <= value <= 1, name, value, 'a probability between 0 and 1')
        for name in ('crop_scale', 'crop_ratio', 'blur_radius'):
            pair = getattr(self, name)
            ordered = len(pair) == 2 and 0 < pair[0] <= pair[1]
            require(ordered, name, pair, 'two numbers above 0, the smaller first')
        require(self.crop_scale[1] <= 1, 'crop_scale', self.crop_scale, 'at most 1')
        known = get_args(Interpolation)
        require(self.interpolation in known, 'interpolation', self.interpolation, f'one of {known}')
        strengths = len(self.jitter) == 4 and min(self.jitter) >= 0 and self.jitter[3] <= 0.5
        expected = 'four numbers from 0 on, the last (hue) at most 0.5'
        require(strengths, 'jitter', self.jitter, expected)

    def sample(self, rng: np.random.Generator, height: int, width: int) -> ViewParams:
        """Draw a view of an image of ``height`` x ``width`` pixels."""
        return ViewParams(
            crop=sample_crop(rng, height, width, self.crop_scale, self.crop_ratio),
            jitter=sample_jitter(rng, self.jitter) if rng.random() < self.jitter_p else (),
            gray=rng.random() < self.gray_p,
            blur_radius=rng.uniform(*self.blur_radius) if rng.random() < self.blur_p else None,
            solarize=rng.random() < self.solarize_p,
            flip=rng.random() < self.flip_p,
        )

    def cut(self, image: Pixels, params: ViewParams, size: int, reduction: int = 1) -> Pixels:
        """The crop of an image decoded at ``1 / reduction``: ``[size, size, 3]`` uint8."""
        crop = params.crop.reduced(reduction).cut(image)
        return transforms.resize(crop, size, self.interpolation)

    def render(self, image: Pixels, params: ViewParams, size: int, reduction: int = 1) -> Pixels:
        """Apply ``params`` to an image decoded at ``1 / reduction``: ``[size, size, 3]`` uint8."""
        view = self.cut(image, params, size, reduction)
        for operator, factor in params.jitter:
            view = _JITTER_OPERATORS[operator](view, factor)
        if params.gray:
            view = transforms.to_gray(view)
        if params.blur_radius is not None:
            view = transforms.gaussian_blur(view, params.blur_radius)
        if params.solarize:
            view = transforms.solarize(view, self.solarize_threshold)
        return transforms.flip(view) if params.flip else view

    def colors(self, params: ViewParams) -> Tensor:
        """What :func:`.colors.recolor` needs to do to a view that was cut, as numbers."""
        threshold = self.solarize_threshold if params.solarize else None
        drawn = (params.jitter, params.gray, params.blur_radius, threshold)
        return packed(*drawn, widest_radius=self.blur_radius[1])


def sample_crop(
    rng: np.random.Generator,
    height: int,
    width: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> CropBox:
    """Draw a crop as torchvision's ``RandomResizedCrop.get_params`` does.

    Area uniform in ``scale``, aspect ratio log-uniform in ``ratio``; after ten draws that do not
    fit, the largest central crop whose ratio is allowed.
    """
    log_ratio = (math.log(ratio[0]), math.log(ratio[1]))
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(*log_ratio))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            top = int(rng.integers(height - h, endpoint=True))
            return CropBox(top, int(rng.integers(width - w, endpoint=True)), h, w)
    w, h = width, height
    if width / height < min(ratio):
        h = round(width / min(ratio))
    elif width / height > max(ratio):
        w = round(height * max(ratio))
    return CropBox((height - h) // 2, (width - w) // 2, h, w)


def sample_jitter(
    rng: np.random.Generator, strengths: tuple[float, float, float, float]
) -> tuple[tuple[int, float], ...]:
    """Draw color jitter as torchvision's ``ColorJitter`` does: factors, and their random order."""
    *scales, hue = strengths
    factors = [rng.uniform(max(0.0, 1 - strength), 1 + strength) for strength in scales]
    factors.append(rng.uniform(-hue, hue))
    order = rng.permutation(4).tolist()
    return tuple((operator, factors[operator]) for operator in order if strengths[operator] > 0)


def require(condition: bool, name: str, value: object, expected: str) -> None:
    """Raise a `UserError` about the field ``name`` of the views unless ``condition``."""
    if not condition:
        raise UserError(f'views: {name} is {value!r}; it must be {expected}.')


# A JPEG is decoded at 1/2, 1/4 or 1/8 only if each crop is still this many times the view's size.
# The edges of the crop then move to whole pixels of that scale: by a third of the view's pixel at
# most. Against the full decode of the same crop, values differ by 0.4 to 0.7 levels of 255 on
# average (1.6 in the worst view; PSNR 40 dB and more) on photographs and Cityscapes frames, which
# is what saving a JPEG again at quality 75 does. At a margin of 1 it is 0.7 to 1.3 (2.8).
REDUCTION_MARGIN = 1.5


@TRANSFORMS.register_module()
class AugmentedViews:
    """Several random views of one image, one `ViewRecipe` each.

    Args:
        views: One dict of `ViewRecipe` fields a view.
        size: Side of the square views in pixels.
        mean: Per channel, of images scaled to [0, 1].
        std: Likewise.
        colors_on_device: In a run, leave colors and blur to the model's device (:mod:`.colors`);
            whoever else asks for views, to look at them, gets whole ones.

    Attributes:
        as_bytes: Whether to leave the normalizing to the model's device (:mod:`.on_device`), and
            with ``colors_on_device`` the colors.

    Raises:
        UserError: A field is unknown or out of its range.

    Example:
        >>> byol = AugmentedViews([dict(blur_p=1.0), dict(blur_p=0.1, solarize_p=0.2)])
    """

    def __init__(
        self,
        views: Sequence[Mapping[str, Any]],
        size: int = 224,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        colors_on_device: bool = False,
    ) -> None:
        if not views:
            raise UserError('views: the list is empty; give one dict of fields for each view.')
        require(size > 0, 'size', size, 'a number of pixels above 0')
        self.recipes = [_build_recipe(number, given) for number, given in enumerate(views, 1)]
        self.size = size
        self.mean = tuple(mean)
        self.std = tuple(std)
        self.colors_on_device = colors_on_device
        self.as_bytes = False

    def sample(self, rng: np.random.Generator, height: int, width: int) -> list[ViewParams]:
        """Draw all views of an image of ``height`` x ``width`` pixels."""
        return [recipe.sample(rng, height, width) for recipe in self.recipes]

    def reduction(self, params: Sequence[ViewParams]) -> int:
        """The largest of 8, 4, 2, 1 by which decoding may shrink the image (REDUCTION_MARGIN)."""
        smallest = min(min(drawn.crop.height, drawn.crop.width) for drawn in params)
        fitting = (f for f in (8, 4, 2) if smallest >= f * REDUCTION_MARGIN * self.size)
        return next(fitting, 1)

    def render(
        self, image: Pixels, params: Sequence[ViewParams], reduction: int = 1
    ) -> dict[str, Tensor]:
        """The views as ``view1``, ``view2``, ...: ``[3, size, size]``.

        They are float32 and normalized, or uint8 where they are to travel as bytes; without
        their colors if those are left to the device, and then with ``colors1``, ``colors2``, ...:
        what was drawn for them.
        """
        views = {}
        for number, (recipe, drawn) in enumerate(zip(self.recipes, params, strict=True), start=1):
            if self.as_bytes and self.colors_on_device:
                view = recipe.cut(image, drawn, self.size, reduction)
                view = transforms.flip(view) if drawn.flip else view
                views[f'colors{number}'] = recipe.colors(drawn)
            else:
                view = recipe.render(image, drawn, self.size, reduction)
            views[f'view{number}'] = (
                transforms.planes(view)
                if self.as_bytes
                else transforms.normalize(view, self.mean, self.std)
            )
        return views


def _build_recipe(number: int, given: Mapping[str, Any]) -> ViewRecipe:
    known = [field.name for field in fields(ViewRecipe)]
    for name in given:
        if new := new_name('ViewRecipe', name):
            raise UserError(f'views: view {number}: {name!r} is called {new!r} now.')
        if name not in known:
            raise UserError(
                f'views: view {number} has no field {name!r}; known: {", ".join(known)}.'
            )
    return ViewRecipe(**given)
