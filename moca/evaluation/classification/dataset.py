"""Labeled images as a classifier is trained and tested on them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log
from mmengine.registry import DATASETS, TRANSFORMS
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from moca.engine.epoch_order import Draw
from moca.engine.seeding import seeded
from moca.errors import UserError
from moca.evaluation.classification.class_lists import (
    imagenet_synsets,
    kept_classes,
    real_labels,
    variant_labels,
)
from moca.evaluation.image_sets import read_image_set
from moca.evaluation.labeled import INTERPOLATIONS, Labeled, center

# Tries before a sample is given up; with 1 % of corrupt images that is once in 10^16.
_REPLACEMENTS = 8


class _Paths(Sequence[str]):
    """Paths of a set's images, decoded one by one."""

    def __init__(self, images: Labeled) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Any) -> Any:
        return os.fsdecode(bytes(self.images.paths[index]))


@DATASETS.register_module()
class LabeledImages(Dataset[dict[str, Any]]):
    """Images of classes: for training in random views, for testing cut to their center.

    ``dataset[i]``, or ``dataset[Draw(i, epoch, seed)]``, is a dict of ``inputs``
    ``[3, height, width]`` uint8, ``label``, ``index`` and ``held_out``, whether the image belongs
    to those that are held out of training. What a view draws is a function of the `Draw` alone.
    Where images that cannot be decoded are skipped, there is ``corrupt_index`` as well, for
    :class:`moca.images.corrupt.CorruptImages`.

    Args:
        data_root: Folder of the data; see :func:`moca.evaluation.image_sets.read_image_set`.
        split: Of it, such as ``train`` or ``val``; empty for the folder itself.
        size: Height and width in pixels.
        augmentation: Config of a `CropAndFlip` without its size, of training alone.
        share: Of a resized image's shorter side that testing keeps; None for the rule of
            :func:`moca.evaluation.labeled.center`.
        whole_above: Of larger images than this, in pixels, testing keeps all, unless a share is
            given: 224 in MAE's fine-tuning. None for no such size.
        skip: Put another image, drawn at random, in the place of one that cannot be decoded; for
            training. Tests stop, since their score would be of other images.
        interpolation: Of testing's resize, ``bicubic`` or ``bilinear``.
        held_out: Images of each class that training leaves out, the last ones by name: a whole
            number of them, or a share (.1). Given to another split than ``train_split``, those of
            that come after its own images, marked.
        held_out_alone: Give the held-out images instead of the split's own, as its own.
        train_split: Folder of the training images, beside `split`.
        variant: One of `VARIANTS`, whose labels are those of ImageNet's 1000 classes.

    Raises:
        UserError: The folder is missing or no labeled folder, or an argument is out of range.
    """

    def __init__(
        self,
        data_root: str | Path,
        split: str = 'train',
        size: int | Sequence[int] = 224,
        augmentation: dict[str, Any] | None = None,
        share: float | None = None,
        interpolation: str = 'bicubic',
        held_out: float = 0,
        train_split: str = 'train',
        variant: str | None = None,
        whole_above: int | None = None,
        skip: bool = False,
        held_out_alone: bool = False,
    ) -> None:
        self.size = (size, size) if isinstance(size, int) else (size[0], size[1])
        share = kept_share(self.size, share, whole_above)
        if interpolation not in INTERPOLATIONS:
            raise UserError(
                f'LabeledImages.interpolation={interpolation!r} is neither bicubic nor bilinear.'
            )
        self.share, self.interpolation = share, interpolation
        self.data_root, self.skip = data_root, skip
        self.augment: Any = None
        if augmentation is not None:
            self.augment = TRANSFORMS.build({**augmentation, 'size': self.size})
        self.images = read_split(data_root, split, variant)
        self.classes = self.images.classes
        self.kept = None if variant is None else kept_classes(variant)
        self.right: list[list[int]] | None = None
        if variant == 'imagenet-real':
            self.right = real_labels(_names(self.images), f'{data_root}/{split}')
        # listed sets and the places in them that the images are taken from, for a `FeatureCache`
        self.sources: list[tuple[Labeled, NDArray[np.int64]]] = []
        self.sources.append((self.images, np.arange(len(self.images))))
        held = np.zeros(len(self.images), bool)
        if held_out:
            training = split == train_split
            train = self.images if training else read_split(data_root, train_split)
            places = held_out_places(train.labels, held_out)
            if held_out_alone:
                self.sources = [(train, places)]
                self.images, held = train.part(places), np.zeros(len(places), bool)
            elif training:
                kept = np.setdiff1d(np.arange(len(train)), places)
                self.sources = [(train, kept)]
                self.images, held = train.part(kept), held[kept]
            else:
                self.images = _joined(self.images, train.part(places))
                self.sources.append((train, places))
                held = np.r_[held, np.ones(len(places), bool)]
        self.held_out = held
        # [N, F], which a `FeatureCache` fills in: images are then no longer read
        self.features: Tensor | None = None
        print_log(self.images.about, 'current')

    @property
    def metainfo(self) -> dict[str, Any]:
        """What checkpoints keep: the classes, in the order of their labels."""
        return {'classes': self.classes, 'kept': self.kept, 'images': len(self)}

    @property
    def scored(self) -> int:
        """How many images the split itself has."""
        return int((~self.held_out).sum())

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, draw: Draw | int) -> dict[str, Any]:
        draw = draw if isinstance(draw, Draw) else Draw(draw)
        if self.features is not None:
            return {**self._about(draw.image), 'features': self.features[draw.image]}
        rng = draw.generator()
        seed = int(rng.integers(2**63))
        index, image = self._readable(draw.image, rng)
        view = np.array(self._view(image, seed))
        sample = {**self._about(index), 'inputs': torch.from_numpy(view).permute(2, 0, 1)}
        if self.skip:
            sample['corrupt_index'] = draw.image if index != draw.image else -1
        return sample

    def _about(self, index: int) -> dict[str, Any]:
        """What a sample says of an image."""
        about: dict[str, Any] = {
            'label': int(self.images.labels[index]),
            'index': index,
            'held_out': bool(self.held_out[index]),
        }
        return about if self.right is None else {**about, 'labels': self._rights(index)}

    def _readable(self, index: int, rng: np.random.Generator) -> tuple[int, Image.Image]:
        """An image, or another one in its place if it may be skipped, and which it is."""
        for _ in range(_REPLACEMENTS):
            try:
                return index, self.images.image(index)
            except UserError:
                if not self.skip:
                    raise
                index = int(rng.integers(len(self)))
        raise UserError(
            f'{self.path(index)}: this and {_REPLACEMENTS - 1} other images drawn in place of one '
            'another cannot be decoded. Repair or remove the corrupt images.'
        )

    @property
    def paths(self) -> Sequence[str]:
        """Where each image is; of a set in one file, what it is called."""
        return _Paths(self.images)

    def path(self, index: int) -> str:
        """Return the path of an image."""
        return self.paths[index]

    def fault(self, index: int) -> str | None:
        """Why an image cannot be decoded; None if it can."""
        try:
            self.images.image(index)
        except UserError as error:
            return str(error).removeprefix(f'{self.path(index)}: ')
        return None

    def _view(self, image: Image.Image, seed: int) -> Image.Image:
        if self.augment is None:
            return center(image, self.size, self.share, self.interpolation)
        with seeded(seed):
            view: Image.Image = self.augment(image)
        return view

    def _rights(self, index: int) -> Tensor:
        assert self.right is not None
        labels = torch.zeros(1000, dtype=torch.bool)
        labels[self.right[index]] = True
        return labels


def kept_share(size: Sequence[int], share: float | None, whole_above: int | None) -> float | None:
    """The share of an image that tests keep; see `LabeledImages`."""
    if share is None and whole_above is not None and min(size) > whole_above:
        return 1.0
    return share


def read_split(root: str | Path, split: str, variant: str | None = None) -> Labeled:
    """The images of a split, with the labels of ImageNet's classes if it is a variant.

    Raises:
        UserError: It is no labeled folder, or not of the variant's classes.
    """
    folder = os.path.join(root, split)
    images = read_image_set(root, split, 'data_root')
    if variant is None or variant == 'imagenet-real':
        return images
    labels = np.array(variant_labels(variant, images.classes, folder))
    return replace(images, labels=labels[images.labels], classes=imagenet_synsets())


def held_out_places(labels: NDArray[np.int64], count: float) -> NDArray[np.int64]:
    """The last images of each class: frames of a video lie side by side under their names.

    Args:
        labels: Of images sorted by name, ``[N]``.
        count: A whole number of images a class, or a share of them (rounded, at least one).

    Raises:
        UserError: A class would keep no image to train on.
    """
    found = []
    for label in np.unique(labels):
        mine = np.flatnonzero(labels == label)
        wanted = int(count) if count >= 1 else max(round(count * len(mine)), 1)
        if wanted >= len(mine):
            raise UserError(
                f'held_out={count:g}: class {label} has {len(mine)} training images, and none '
                'would be left. Give fewer, or 0 to choose nothing on held-out images.'
            )
        found.append(mine[len(mine) - wanted :])
    return np.sort(np.concatenate(found))


def _joined(first: Labeled, second: Labeled) -> Labeled:
    about = f'{first.about}; with {len(second):,} training images held out'
    paths = np.concatenate([first.paths, second.paths])
    labels = np.concatenate([first.labels, second.labels])
    pixels = None
    if first.pixels is not None and second.pixels is not None:
        pixels = np.concatenate([first.pixels, second.pixels])
    return replace(first, paths=paths, labels=labels, about=about, pixels=pixels)


def _names(images: Labeled) -> list[str]:
    return [os.path.basename(os.fsdecode(bytes(path))) for path in images.paths]
