"""How fast features are extracted, beside a plain loop over torchvision's ImageFolder."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torchvision import transforms
from torchvision.datasets.folder import default_loader

from moca.backbone import PlainViT
from moca.errors import UserError
from moca.evaluation.extraction import Cut, CutImages
from moca.evaluation.features import image_feature
from moca.evaluation.labeled import Labeled, center, normalize
from moca.images.listing import list_folder_once
from moca.images.transforms import IMAGENET_MEAN, IMAGENET_STD
from tools.benchmarks.views import make_images

BATCH = 8
"""Images in a row by one way before the other one's turn, so that both meet the same machine."""


@dataclass(frozen=True)
class ExtractionSpeed:
    """What both ways need, in CPU seconds an image of one core.

    Attributes:
        images: How many there are.
        looked: How many images either way has taken.
        equal: Whether all pixels were equal bit for bit.
        decoding: Of ours, from the file to pixels.
        cutting: Of ours, resizing, cutting and normalizing.
        forward: Of ours, the backbone.
        plain_reading: torchvision's from the file to a normalized tensor.
        plain_forward: The same backbone in a plain loop.
    """

    images: int
    looked: int
    equal: bool
    decoding: float
    cutting: float
    forward: float
    plain_reading: float
    plain_forward: float

    @property
    def ratio_of_reading(self) -> float:
        """How many times as fast as torchvision images become tensors."""
        return self.plain_reading / (self.decoding + self.cutting)

    @property
    def ratio(self) -> float:
        """The same of the whole extraction, backbone included."""
        ours = self.decoding + self.cutting + self.forward
        return (self.plain_reading + self.plain_forward) / ours

    @property
    def decoding_share(self) -> float:
        """Of our time for an image, backbone included."""
        return self.decoding / (self.decoding + self.cutting + self.forward)


def measure_extraction(
    data_root: str | Path | None,
    seconds: float,
    size: int = 224,
    arch: str = 'vit_small_patch16',
    interpolation: str = 'bicubic',
) -> ExtractionSpeed:
    """Extract features of images in one thread in either way in turn.

    Args:
        data_root: A folder of images; None makes 40 JPEGs of 500 x 375 pixels.
        seconds: CPU time to spend on both together.
        size: Of the model, in pixels.
        arch: timm name of the ViT, which has random weights.
        interpolation: Of resizing.

    Raises:
        UserError: The folder is missing or has no images, or ``seconds`` is not above 0.
    """
    if seconds <= 0:
        raise UserError(f'--seconds is {seconds:g}; it must be above 0.')
    if data_root is None:
        with tempfile.TemporaryDirectory() as folder:
            make_images(Path(folder))
            return measure_extraction(folder, seconds, size, arch, interpolation)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    names = list_folder_once(data_root).paths
    if not names:
        raise UserError(f'--data {data_root}: no image in there. Give a folder of images.')
    paths = [os.path.join(data_root, name) for name in names]
    encoded = np.array([os.fsencode(path) for path in paths])
    images = Labeled(encoded, np.zeros(len(paths), np.int64), ('all',))
    model = PlainViT(arch, img_size=size, frozen=True)
    statistics = IMAGENET_MEAN, IMAGENET_STD
    tool = CutImages(images, (size, size), Cut(interpolation), *statistics)
    plain = plain_transform(size, interpolation)
    clock = _Clock()
    equal, looked = True, 0
    while sum(clock.spent.values()) < seconds:
        chosen = [(looked + step) % len(paths) for step in range(BATCH)]
        with clock('decode'):
            pixels = [images.image(place) for place in chosen]
        with clock('cut'):
            cut = [center(image, (size, size), None, interpolation) for image in pixels]
            ours = torch.stack([normalize(image, *statistics) for image in cut])
        with clock('forward'):
            image_feature(model, ours, 'avg')
        with clock('plain'):
            theirs = torch.stack([plain(default_loader(paths[place])) for place in chosen])
        with clock('plain forward'):
            model(theirs)[-1].mean((2, 3))
        equal &= torch.equal(ours, theirs) and torch.equal(ours[0], tool[chosen[0]])
        looked += BATCH
    spent = clock.spent
    each = {name: value / looked for name, value in spent.items()}
    return ExtractionSpeed(
        len(paths),
        looked,
        equal,
        decoding=each['decode'],
        cutting=each['cut'],
        forward=each['forward'],
        plain_reading=each['plain'],
        plain_forward=each['plain forward'],
    )


def plain_transform(size: int, interpolation: str) -> Callable[[object], Tensor]:
    """ImageNet's usual evaluation transform in torchvision's operators on PIL images."""
    side = int(size / (0.875 if size >= 224 else 1.0))
    transform: Callable[[object], Tensor] = transforms.Compose(
        [
            transforms.Resize(side, transforms.InterpolationMode(interpolation)),
            transforms.CenterCrop(size),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    return transform


class _Clock:
    """CPU seconds by name, of blocks without gradients."""

    def __init__(self) -> None:
        self.spent = dict.fromkeys(('decode', 'cut', 'forward', 'plain', 'plain forward'), 0.0)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.process_time()
        with torch.no_grad():
            yield
        self.spent[name] += time.process_time() - start
