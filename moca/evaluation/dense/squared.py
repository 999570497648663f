"""Images and label maps as squares: squashed, or cut at random for a bank.

Sources: open-hummingbird-eval 2.0.0 (`RandomView`, `SquashTensor`) and facebookresearch/capi
(`SquashPillow`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import ColorJitter, InterpolationMode, RandomResizedCrop
from torchvision.transforms import functional as transforms

from moca.engine.seeding import mixed_seed, seeded
from moca.evaluation.dense.labeled_maps import LabeledMaps
from moca.evaluation.labeled import normalize

SCALE, RATIO = (0.5, 2.0), (3 / 4, 4 / 3)
"""Of a bank's crops: area and shape. Areas above 1 never fit, so that crops cover half to all."""

JITTER, JITTER_PROBABILITY = 0.1, 0.5
"""Strength of brightness, contrast, saturation and hue, each changed with this probability."""

_NEAREST, _BILINEAR = InterpolationMode.NEAREST, InterpolationMode.BILINEAR

Pixels = NDArray[np.uint8]
Square = Callable[[Pixels, Pixels, int], tuple[Tensor, Tensor]]
"""From an image ``[H, W, 3]``, its labels ``[H, W]`` and its number, a normalized image
``[3, S, S]`` and labels ``[S, S]`` uint8."""


class Squares(Dataset[tuple[Tensor, Tensor]]):
    """Images ``[3, S, S]`` and labels ``[S, S]`` of a data set.

    Args:
        maps: The data set.
        square: What makes squares of them.
    """

    def __init__(self, maps: LabeledMaps, square: Square) -> None:
        self.maps, self.square = maps, square

    def __len__(self) -> int:
        return len(self.maps)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, labels = self.maps.read(index)
        return self.square(image, labels, index)


class SquashTensor:
    """Normalize, then squash to a square: bilinear with antialiasing, labels nearest.

    Args:
        size: S in pixels.
        mean: Per channel, of images scaled to [0, 1].
        std: Likewise.
    """

    def __init__(self, size: int, mean: Sequence[float], std: Sequence[float]) -> None:
        self.size, self.mean, self.std = size, mean, std

    def __call__(self, image: Pixels, labels: Pixels, index: int) -> tuple[Tensor, Tensor]:
        """See `Square`."""
        pixels = normalize(Image.fromarray(image), self.mean, self.std)
        side = [self.size, self.size]
        squashed = transforms.resize(pixels, side, _BILINEAR, antialias=True)
        return squashed, transforms.resize(torch.from_numpy(labels)[None], side, _NEAREST)[0]


class SquashPillow(SquashTensor):
    """Squash by Pillow's bicubic filter (labels nearest), then normalize, as CAPI does."""

    def __call__(self, image: Pixels, labels: Pixels, index: int) -> tuple[Tensor, Tensor]:
        """See `Square`."""
        side = (self.size, self.size)
        squashed = Image.fromarray(image).resize(side, Image.Resampling.BICUBIC)
        nearest = Image.fromarray(labels).resize(side, Image.Resampling.NEAREST)
        pixels = normalize(squashed, self.mean, self.std)
        return pixels, torch.from_numpy(np.array(nearest))


class RandomView(SquashTensor):
    """Jitter the colors of the whole image, normalize, and cut out a random part; no flip.

    What is drawn depends on the seed, the epoch and the image alone.

    Args:
        size: S in pixels.
        mean: Per channel, of images scaled to [0, 1].
        std: Likewise.
        seed: Of the run.
        epoch: Over the bank's images.
    """

    def __init__(
        self, size: int, mean: Sequence[float], std: Sequence[float], seed: int, epoch: int
    ) -> None:
        super().__init__(size, mean, std)
        self.seed, self.epoch = seed, epoch
        fields = ('brightness', 'contrast', 'saturation', 'hue')
        self.jitters = [ColorJitter(**{field: JITTER}) for field in fields]

    def __call__(self, image: Pixels, labels: Pixels, index: int) -> tuple[Tensor, Tensor]:
        """See `Square`."""
        with seeded(mixed_seed(self.seed, self.epoch, index)):
            picture = Image.fromarray(image)
            for jitter in self.jitters:
                if torch.rand(()) < JITTER_PROBABILITY:
                    picture = jitter(picture)
            pixels = normalize(picture, self.mean, self.std)
            box = RandomResizedCrop.get_params(pixels, list(SCALE), list(RATIO))
        side = [self.size, self.size]
        cut = transforms.resized_crop(pixels, *box, side, _BILINEAR, antialias=True)
        theirs = transforms.resized_crop(torch.from_numpy(labels)[None], *box, side, _NEAREST)
        return cut, theirs[0]
