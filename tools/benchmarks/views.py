"""How fast views are made, beside the torchvision/PIL recipe on the same images."""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image, ImageFilter, ImageOps
from torch import Tensor
from torchvision import transforms

from moca.engine.epoch_order import Draw
from moca.errors import UserError
from moca.images.transforms import IMAGENET_MEAN, IMAGENET_STD
from moca.pretrain.data.dataset import UnlabeledImages
from moca.pretrain.data.views import AugmentedViews

# Where BYOL's two views differ.
BYOL_VIEWS = ({'blur_p': 1.0, 'solarize_p': 0.0}, {'blur_p': 0.1, 'solarize_p': 0.2})
# Images in a row by one recipe before the other one's turn, so that both meet the same machine.
_TURN = 10


@dataclass(frozen=True)
class ViewSpeed:
    """Pairs of views per second of one core (CPU seconds, not those of a wall clock)."""

    images: int
    pairs: int
    ours: float
    torchvision: float

    @property
    def ratio(self) -> float:
        """How many times as fast as torchvision on PIL images."""
        return self.ours / self.torchvision


def measure_views(data_root: str | Path | None, seconds: float, size: int) -> ViewSpeed:
    """Make pairs of views in one thread by either recipe in turn.

    From the file's bytes to normalized float32 tensors; both decode an image once.

    Args:
        data_root: A folder of images; None makes 40 JPEGs of 500 x 375 pixels.
        seconds: CPU time to spend on both together.
        size: Side of the views in pixels.

    Raises:
        UserError: The folder is missing or has no images, or ``seconds`` is not above 0.
    """
    if seconds <= 0:
        raise UserError(f'--seconds is {seconds:g}; it must be above 0.')
    if data_root is None:
        with tempfile.TemporaryDirectory() as folder:
            make_images(Path(folder))
            return measure_views(folder, seconds, size)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    dataset = UnlabeledImages(data_root, AugmentedViews(BYOL_VIEWS, size))
    recipe = torchvision_views(size)

    def ours(index: int, epoch: int) -> None:
        dataset[Draw(index, epoch)]

    def torchvisions(index: int, epoch: int) -> None:
        image = Image.open(io.BytesIO(dataset.images.read(index))).convert('RGB')
        for view in recipe:
            view(image)

    makers = (ours, torchvisions)
    for make in makers:  # warm up
        _take_turn(make, len(dataset), 0)
    spent = [0.0, 0.0]
    turns = 0
    while sum(spent) < seconds:
        turns += 1
        for number, make in enumerate(makers):
            spent[number] += _take_turn(make, len(dataset), turns)
    pairs = turns * _TURN
    return ViewSpeed(len(dataset), pairs, pairs / spent[0], pairs / spent[1])


def torchvision_views(size: int) -> list[Callable[[Image.Image], Tensor]]:
    """BYOL's two views in torchvision's operators on PIL images, as usually published."""

    def blur(image: Image.Image) -> Image.Image:
        return image.filter(ImageFilter.GaussianBlur(np.random.uniform(0.1, 2.0)))

    def compose(blur_p: float, solarize_p: float) -> Callable[[Image.Image], Tensor]:
        jitter = transforms.ColorJitter(0.4, 0.4, 0.2, 0.1)
        solarize = transforms.Lambda(lambda image: ImageOps.solarize(image, 128))
        return transforms.Compose(
            [
                transforms.RandomResizedCrop(size, scale=(0.2, 1.0)),
                transforms.RandomApply([jitter], p=0.8),
                transforms.RandomGrayscale(p=0.2),
                transforms.RandomApply([transforms.Lambda(blur)], p=blur_p),
                transforms.RandomApply([solarize], p=solarize_p),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
            ]
        )

    return [compose(**probabilities) for probabilities in BYOL_VIEWS]


def _take_turn(make: Callable[[int, int], None], images: int, turn: int) -> float:
    start = time.process_time()
    for step in range(_TURN):
        make((turn * _TURN + step) % images, turn)
    return time.process_time() - start


def make_images(folder: Path, count: int = 40) -> None:
    """JPEGs of about a photograph's size in bytes: noise with a photograph's 1/f spectrum."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(375)[:, None], np.fft.rfftfreq(500)) + 1 / 500
    for number in range(count):
        spectrum = np.fft.rfft2(rng.standard_normal((3, 375, 500))) / frequency
        planes = np.fft.irfft2(spectrum, s=(375, 500))
        planes = 128 + 50 * planes / planes.std()
        image = np.clip(planes, 0, 255).astype(np.uint8).transpose(1, 2, 0)
        Image.fromarray(image).save(folder / f'{number}.jpg', quality=90)
