"""The random views of a picture that a pre-training method compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from mmengine.registry import TRANSFORMS
from torch import Tensor

from moca.errors import UserError
from moca.pretrain import pixels
from moca.pretrain.pixels import IMAGENET_MEAN, IMAGENET_STD, Picture
from moca.pretrain.view_recipe import ViewParams, ViewRecipe, require

# A JPEG is decoded at 1/2, 1/4 or 1/8 only if each crop is still this many times the view's size.
# The edges of the crop then move to whole pixels of that scale: by a third of the view's pixel at
# most. Against the full decode of the same crop, values differ by 0.4 to 0.7 levels of 255 on
# average (1.6 in the worst view; PSNR 40 dB and more) on photographs and Cityscapes frames, which
# is what saving a JPEG again at quality 75 does. At a margin of 1 it is 0.7 to 1.3 (2.8).
REDUCTION_MARGIN = 1.5


@TRANSFORMS.register_module()
class AugmentedViews:
    """Several random views of one picture, one `ViewRecipe` each.

    Args:
        views: One dict of `ViewRecipe` fields a view.
        size: Side of the square views in pixels.
        mean: Per channel, of pictures scaled to [0, 1].
        std: Likewise.

    Raises:
        UserError: A field is unknown or out of its range.

    Example:
        >>> byol = AugmentedViews([dict(blur_p=1.0), dict(blur_p=0.1, solarise_p=0.2)])
    """

    def __init__(
        self,
        views: Sequence[Mapping[str, Any]],
        size: int = 224,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        if not views:
            raise UserError('views: the list is empty; give one dict of fields for each view.')
        require(size > 0, 'size', size, 'a number of pixels above 0')
        self.recipes = [_build_recipe(number, given) for number, given in enumerate(views, 1)]
        self.size = size
        self.mean = tuple(mean)
        self.std = tuple(std)

    def sample(self, rng: np.random.Generator, height: int, width: int) -> list[ViewParams]:
        """Draw all views of a picture of ``height`` x ``width`` pixels."""
        return [recipe.sample(rng, height, width) for recipe in self.recipes]

    def reduction(self, params: Sequence[ViewParams]) -> int:
        """The largest of 8, 4, 2, 1 by which decoding may shrink the picture (REDUCTION_MARGIN)."""
        smallest = min(min(drawn.crop.height, drawn.crop.width) for drawn in params)
        fitting = (f for f in (8, 4, 2) if smallest >= f * REDUCTION_MARGIN * self.size)
        return next(fitting, 1)

    def render(
        self, picture: Picture, params: Sequence[ViewParams], reduction: int = 1
    ) -> dict[str, Tensor]:
        """The views as ``view1``, ``view2``, ...: ``[3, size, size]`` float32, normalised."""
        views = {}
        for number, (recipe, drawn) in enumerate(zip(self.recipes, params, strict=True), start=1):
            view = recipe.render(picture, drawn, self.size, reduction)
            views[f'view{number}'] = pixels.normalise(view, self.mean, self.std)
        return views


def _build_recipe(number: int, given: Mapping[str, Any]) -> ViewRecipe:
    known = [field.name for field in fields(ViewRecipe)]
    for name in given:
        if name not in known:
            raise UserError(
                f'views: view {number} has no field {name!r}; known: {", ".join(known)}.'
            )
    return ViewRecipe(**given)
