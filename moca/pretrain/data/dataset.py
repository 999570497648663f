"""Unlabeled images and their random views."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.logging import print_log
from mmengine.registry import DATASETS, TRANSFORMS
from numpy.typing import NDArray
from torch.utils.data import Dataset

from moca.engine.epoch_order import Draw
from moca.errors import UserError
from moca.images.image_io import CorruptImage, EncodedImage, open_image
from moca.pretrain.data.first_look import look_at_some
from moca.pretrain.data.sources import open_images
from moca.pretrain.data.views import AugmentedViews

# Tries before a sample is given up; with 1 % of corrupt images that is once in 10^16.
_REPLACEMENTS = 8


@DATASETS.register_module()
class UnlabeledImages(Dataset[dict[str, Any]]):
    """Random views of the images in a folder or in tar shards; labels are not read.

    ``dataset[i]``, or ``dataset[Draw(i, epoch, seed)]``, is a dict of

    - ``view1``, ``view2``, ...: ``[3, size, size]`` float32 tensors;
    - ``index``: of the image in `paths`;
    - ``corrupt_index``: of the image that was to be here but cannot be decoded, so that
      another one, drawn from the same generator, stands in; -1 if all is well.

    Args:
        data_root: A folder of any depth with the kinds of :mod:`moca.images.listing`; or tars, by
            their folder, a range or a URL, see :mod:`.shards.storage`.
        views: An `AugmentedViews`, or the config of one.
        limit: Use at most this many images, evenly spaced through the sorted list.
        members: Of tars: the pattern of members that are images, such as ``*.jpg``.
        shuffle_window: Of tars: images among which one is shuffled at a time, 131,072.

    Attributes:
        images: Where they come from.

    Raises:
        UserError: What holds the images is missing, has fewer than two, or none can be decoded.
    """

    def __init__(
        self,
        data_root: str | Path,
        views: dict[str, Any] | AugmentedViews,
        limit: int | None = None,
        members: str | None = None,
        shuffle_window: int | None = None,
    ) -> None:
        self.data_root = str(data_root)
        self.views: AugmentedViews = TRANSFORMS.build(views) if isinstance(views, dict) else views
        # Here, not in the workers: a forked worker inherits the locks of OpenCV's thread pool but
        # not its threads, and hangs as soon as it uses the pool or changes its size. Views are
        # too small to gain from more threads, and the workers take all cores.
        cv2.setNumThreads(1)
        self.images = open_images(data_root, limit, members, shuffle_window)
        print_log(f'Training on {self.images.describe()}', 'current')
        self._check_readable()

    def __setstate__(self, state: dict[str, Any]) -> None:
        # A worker that was spawned rather than forked.
        self.__dict__.update(state)
        cv2.setNumThreads(1)

    @property
    def metainfo(self) -> dict[str, Any]:
        """What mmengine stores in checkpoints, to warn of another data set on resuming."""
        return {'images': len(self)}

    @property
    def digest(self) -> str:
        """A text for which images there are, by which a run that is resumed knows them."""
        return self.images.digest

    @property
    def paths(self) -> Sequence[str]:
        """Path of each image relative to ``data_root``; a folder's are sorted."""
        return self.images.paths

    def __len__(self) -> int:
        return len(self.images)

    def shuffled(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """The order of an epoch, ``[N]``."""
        return self.images.shuffled(rng)

    def __getitem__(self, draw: Draw | int) -> dict[str, Any]:
        return self.__getitems__([draw])[0]

    def __getitems__(self, draws: Sequence[Draw | int]) -> list[dict[str, Any]]:
        """The samples of a batch, whose images are read together."""
        drawn = [draw if isinstance(draw, Draw) else Draw(draw) for draw in draws]
        found = self.images.read_many([draw.image for draw in drawn])
        return [self._sample(*each) for each in zip(drawn, found, strict=True)]

    def _sample(self, draw: Draw, data: bytes | CorruptImage) -> dict[str, Any]:
        rng = draw.generator()
        index, corrupt_index = draw.image, -1
        for _ in range(_REPLACEMENTS):
            try:
                if isinstance(data, CorruptImage):
                    raise data
                views = self._views_of(open_image(data), rng)
            except CorruptImage:
                corrupt_index = draw.image
                index = int(rng.integers(len(self)))
                (data,) = self.images.read_many([index])
            else:
                return {**views, 'index': index, 'corrupt_index': corrupt_index}
        raise UserError(
            f'{self.path(draw.image)}: this and {_REPLACEMENTS - 1} other images drawn in its '
            'place cannot be decoded. Repair or remove the corrupt images.'
        )

    def path(self, index: int) -> Path | str:
        """Where an image is: its file, or its shard and its name in it."""
        return self.images.path(index)

    def open(self, index: int) -> EncodedImage:
        """Read an image's file and header.

        Raises:
            CorruptImage: It cannot be read, or its header is broken.
        """
        return open_image(self.images.read(index))

    def fault(self, index: int) -> str | None:
        """Why an image cannot be decoded; None if it can."""
        try:
            self.open(index).decode()
        except CorruptImage as error:
            return str(error)
        return None

    def _views_of(self, encoded: EncodedImage, rng: np.random.Generator) -> dict[str, Any]:
        params = self.views.sample(rng, encoded.height, encoded.width)
        reduction = self.views.reduction(params) if encoded.reducible else 1
        return self.views.render(encoded.decode(reduction), params, reduction)

    def _check_readable(self) -> None:
        """Fail at once where no image at all is one (say, pointers of Git LFS); warn of others."""
        found = look_at_some(self.data_root, self.paths, self.images.read)
        if all(found.faults.values()):
            path, fault = next(iter(found.faults.items()))
            raise UserError(
                f'{self.data_root}: none of {len(found.faults)} images tried can be decoded, for '
                f'example {path}: {fault}. Check how the files were copied.'
            )
        for note in found.notes:
            print_log(note, 'current', level=logging.WARNING)
