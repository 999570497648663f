"""Labeled folders of images, read as MOCA's k-NN evaluation reads ImageNet."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as transforms

from moca.errors import UserError
from moca.images.image_io import read_pixels
from moca.images.listing import list_folder_once

# What ImageNet's protocol keeps of the shorter side: 224 of 256 pixels.
CENTER_SHARE = 0.875

INTERPOLATIONS = {
    'bicubic': InterpolationMode.BICUBIC,
    'bilinear': InterpolationMode.BILINEAR,
}
"""How images are resized."""


@dataclass(frozen=True)
class Labeled:
    """Images and their classes.

    Attributes:
        paths: One an image, as bytes of equal length ``[N]``. (Worker processes would each copy a
            list of Python strings piece by piece, since reading one writes its reference count.)
        labels: int64 ``[N]``.
        classes: Names of the folders; a label is an index into them.
        about: A line for logs: how many images its folder has, and what is not used of it.
        pixels: uint8 ``[N, H, W, 3]`` of a set that comes in one file, as CIFAR does; `paths` then
            only name the images.
    """

    paths: NDArray[np.bytes_]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    about: str = ''
    pixels: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def part(self, indices: NDArray[np.int64] | list[int] | slice) -> Labeled:
        """Some of the images."""
        pixels = None if self.pixels is None else self.pixels[indices]
        paths, labels = self.paths[indices], self.labels[indices]
        return replace(self, paths=paths, labels=labels, pixels=pixels)

    def image(self, index: int) -> Image.Image:
        """An image as RGB.

        Raises:
            UserError: It cannot be decoded.
        """
        if self.pixels is not None:
            return Image.fromarray(self.pixels[index])
        return read_image(os.fsdecode(bytes(self.paths[index])))


def read_folder(root: str | Path, field: str) -> Labeled:
    """List a folder that has one subfolder a class, with labels as torchvision's ``ImageFolder``.

    Args:
        root: The folder.
        field: What to call it in messages.

    Raises:
        UserError: It is no such folder, a class has no image, or one is a folder of classes.
    """
    where = f'{field} {root}'
    if not Path(root).is_dir():
        raise UserError(
            f'{where}: no such folder (looked for {Path(root).absolute()}). Give a folder with one '
            'subfolder of images for each class.'
        )
    listing = list_folder_once(root)
    classes = _class_names(Path(root))
    label = {name: number for number, name in enumerate(classes)}
    split = [(path, path.partition('/')[0]) for path in listing.paths]
    paths = [path for path, name in split if name in label and name != path]
    labels = np.array([label[name] for path, name in split if name in label and name != path])
    beside = len(split) - len(paths)
    filled = set(labels.tolist())
    empty = [name for name, number in label.items() if number not in filled]
    if empty or not classes:
        what = (
            f'found no valid file for the classes {", ".join(empty)}'
            if classes
            else 'no class folder'
        )
        passed = listing.passed_over()
        raise UserError(
            f'{where}: {what}{f" ({passed})" if passed else ""}. A labeled folder has one '
            'subfolder for each class, and images in each of them. (ImageNet and Tiny-ImageNet '
            'come with a validation set in one flat folder: sort it first.)'
        )
    _check_depth(paths, Path(root), where)
    passed = '; '.join(
        filter(None, [f'{beside:,} beside the classes' if beside else '', listing.passed_over()])
    )
    about = f'{where}: {len(paths):,} images of {len(classes):,} classes'
    about += f'; {passed}' if passed else ''
    prefix = os.path.join(root, '')
    encoded = np.array([os.fsencode(prefix + path) for path in paths])
    return Labeled(encoded, labels, classes, about)


def _class_names(root: Path) -> tuple[str, ...]:
    with os.scandir(root) as entries:
        return tuple(sorted(e.name for e in entries if e.is_dir() and not e.name.startswith('.')))


def _check_depth(paths: Sequence[str], root: Path, where: str) -> None:
    """Refuse a folder above the classes: train and val would be taken for two of them.

    One folder in between, as the ``images`` of Tiny-ImageNet's classes, is none of these.
    """
    inner: dict[str, set[str]] = {}
    for path in paths:
        name, *parts = path.split('/')
        inner.setdefault(name, set()).add(parts[0] if len(parts) > 1 else '')
    for name, folders in inner.items():
        if '' not in folders and len(folders) > 1:
            shown = ', '.join(sorted(folders)[:3])
            raise UserError(
                f'{where}: its folder {name} holds no images but {len(folders)} folders of them '
                f'({shown} ...), so it is no class. Give a folder whose subfolders are the '
                f'classes, such as {root / name}.'
            )


def hold_out(images: Labeled, share: float) -> tuple[Labeled, Labeled]:
    """Split off the last images of each class, in the order of their sorted names.

    The last ones rather than random ones, because frames of a video lie side by side under their
    names and would otherwise meet their twins.

    Args:
        images: All of them.
        share: Of each class, rounded, at least one image; a class of one keeps it.

    Returns:
        The rest, and what was split off.

    Raises:
        UserError: No class has two images.
    """
    rest, split = [], []
    for label in range(len(images.classes)):
        mine = np.flatnonzero(images.labels == label)
        count = min(max(round(share * len(mine)), 1), len(mine) - 1)
        rest.append(mine[: len(mine) - count])
        split.append(mine[len(mine) - count :])
    if not any(len(indices) for indices in split):
        raise UserError('the labeled folder has one image a class: none can be held out.')
    return images.part(np.concatenate(rest)), images.part(np.concatenate(split))


def center(
    image: Image.Image,
    size: tuple[int, int],
    share: float | None = None,
    interpolation: str = 'bicubic',
) -> Image.Image:
    """Resize an image until it covers ``int(size / share)``, and cut out its center.

    Bit-equal to torchvision's ``Resize`` and ``CenterCrop`` of PIL images for square sizes.

    Args:
        image: RGB, of any size.
        size: Height and width in pixels.
        share: Of the resized image's side that is kept. None: .875 from 224 pixels on, which is
            ImageNet's 224 of 256, and all for smaller models [our choice: small images, such as
            Tiny-ImageNet's, were cut close already, and one of the model's size stays as it is].
        interpolation: One of :data:`INTERPOLATIONS`; low-shot classification is bilinear.
    """
    if share is None:
        share = CENTER_SHARE if min(size) >= 224 else 1.0
    height, width = (int(side / share) for side in size)  # as MAE and timm: 292 for 256
    # the side that fits exactly, and the other one cut to whole pixels as torchvision's Resize does
    if height * image.width >= width * image.height:
        width = int(height * image.width / image.height)
    else:
        height = int(width * image.height / image.width)
    resized = transforms.resize(image, [height, width], INTERPOLATIONS[interpolation])
    return transforms.center_crop(resized, list(size))


class Centered(Dataset[Tensor]):
    """Images by their path, cut as `center` does and normalized, ``[3, *size]``.

    Args:
        paths: As in `Labeled`.
        size: Height and width in pixels.
        mean: Per channel, of images scaled to [0, 1].
        std: Likewise.
    """

    def __init__(
        self,
        paths: NDArray[np.bytes_],
        size: tuple[int, int],
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        self.paths, self.size, self.mean, self.std = paths, size, mean, std

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        image = center(read_image(os.fsdecode(bytes(self.paths[index]))), self.size)
        return normalize(image, self.mean, self.std)


def normalize(image: Image.Image, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """``[3, H, W]`` fp32; mean and deviation are of images scaled to [0, 1]."""
    return transforms.normalize(transforms.to_tensor(image), mean, std, inplace=True)


def read_image(path: str | Path) -> Image.Image:
    """An image as RGB, with the pixels of :mod:`moca.images.image_io`.

    Raises:
        UserError: It cannot be decoded.
    """
    return Image.fromarray(read_pixels(path))


def batches(images: Dataset[Tensor], batch_size: int, num_workers: int = 0) -> Iterable[Tensor]:
    """Images ``[B, 3, H, W]`` in order; takes no number from torch's global generator."""
    return DataLoader(
        images, batch_size=batch_size, num_workers=num_workers, generator=torch.Generator()
    )
