"""One view: what is drawn at random for a picture, and how it is applied.

Everything random is drawn first, from an explicit generator and the picture's full size alone
(`ViewRecipe.sample`), then applied (`ViewRecipe.render`). So a sample's views depend on its
generator only, not on the worker that makes them, and all crops are known before decoding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

import numpy as np

from moca.errors import UserError
from moca.pretrain import pixels
from moca.pretrain.pixels import Interpolation, Picture

# The order of torchvision's ColorJitter arguments; they are applied in random order.
_JITTER_OPERATORS: tuple[Callable[[Picture, float], Picture], ...] = (
    pixels.adjust_brightness,
    pixels.adjust_contrast,
    pixels.adjust_saturation,
    pixels.adjust_hue,
)


@dataclass(frozen=True)
class CropBox:
    """A rectangle in pixels."""

    top: int
    left: int
    height: int
    width: int

    def reduced(self, factor: int) -> CropBox:
        """The box in a picture decoded at ``1 / factor``, rounded to whole pixels of it."""
        return CropBox(*(round(side / factor) for side in self._sides()))

    def cut(self, picture: Picture) -> Picture:
        """The part of ``picture`` in the box, without copying."""
        top, left, height, width = self._sides()
        return picture[top : top + height, left : left + width]

    def _sides(self) -> tuple[int, int, int, int]:
        return self.top, self.left, self.height, self.width


@dataclass(frozen=True)
class ViewParams:
    """What was drawn for one view.

    Attributes:
        crop: The rectangle that is resized to the view, in pixels of the full-size picture.
        jitter: (index into brightness, contrast, saturation, hue; factor) in the order of
            application; empty without jitter.
        blur_radius: In pixels of the view; None without blur.
    """

    crop: CropBox
    jitter: tuple[tuple[int, float], ...]
    grey: bool
    blur_radius: float | None
    solarise: bool
    flip: bool


@dataclass(frozen=True)
class ViewRecipe:
    """The augmentations of one view, in the order in which they are applied.

    The default values are those that BYOL's two views share (arXiv 2006.07733, table 6, as used by
    MOCA with crops from 20 % of the area); probabilities that differ between its views are 0.

    Attributes:
        crop_scale: Share of the picture's area that a crop covers.
        crop_ratio: Width over height of a crop.
        interpolation: 'bilinear' or 'bicubic', antialiased.
        jitter: Strengths of brightness, contrast, saturation and hue.
        jitter_p: Probability of the colour jitter; the others alike.
        blur_radius: Range of PIL's blur radius in pixels of the view.
        solarise_threshold: Values from here on are inverted.
    """

    crop_scale: tuple[float, float] = (0.2, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: Interpolation = 'bilinear'
    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.2, 0.1)
    jitter_p: float = 0.8
    grey_p: float = 0.2
    blur_p: float = 0.0
    blur_radius: tuple[float, float] = (0.1, 2.0)
    solarise_p: float = 0.0
    solarise_threshold: int = 128
    flip_p: float = 0.5

    def __post_init__(self) -> None:
        for name in ('jitter_p', 'grey_p', 'blur_p', 'solarise_p', 'flip_p'):
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
        """Draw a view of a picture of ``height`` x ``width`` pixels."""
        return ViewParams(
            crop=sample_crop(rng, height, width, self.crop_scale, self.crop_ratio),
            jitter=sample_jitter(rng, self.jitter) if rng.random() < self.jitter_p else (),
            grey=rng.random() < self.grey_p,
            blur_radius=rng.uniform(*self.blur_radius) if rng.random() < self.blur_p else None,
            solarise=rng.random() < self.solarise_p,
            flip=rng.random() < self.flip_p,
        )

    def render(
        self, picture: Picture, params: ViewParams, size: int, reduction: int = 1
    ) -> Picture:
        """Apply ``params`` to a picture decoded at ``1 / reduction``: ``[size, size, 3]`` uint8."""
        crop = params.crop.reduced(reduction).cut(picture)
        view = pixels.resize(crop, size, self.interpolation)
        for operator, factor in params.jitter:
            view = _JITTER_OPERATORS[operator](view, factor)
        if params.grey:
            view = pixels.to_grey(view)
        if params.blur_radius is not None:
            view = pixels.gaussian_blur(view, params.blur_radius)
        if params.solarise:
            view = pixels.solarise(view, self.solarise_threshold)
        return pixels.flip(view) if params.flip else view


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
    """Draw colour jitter as torchvision's ``ColorJitter`` does: factors, and their random order."""
    *scales, hue = strengths
    factors = [rng.uniform(max(0.0, 1 - strength), 1 + strength) for strength in scales]
    factors.append(rng.uniform(-hue, hue))
    order = rng.permutation(4).tolist()
    return tuple((operator, factors[operator]) for operator in order if strengths[operator] > 0)


def require(condition: bool, name: str, value: object, expected: str) -> None:
    """Raise a `UserError` about the field ``name`` of the views unless ``condition``."""
    if not condition:
        raise UserError(f'views: {name} is {value!r}; it must be {expected}.')
