"""Unlabeled images and their random views."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.logging import print_log
from mmengine.registry import DATASETS, TRANSFORMS
from torch.utils.data import Dataset

from moca.engine.epoch_order import Draw
from moca.errors import UserError
from moca.images.files import sought
from moca.images.image_io import CorruptImage, EncodedImage, open_image
from moca.images.listing import Listing, PathList, list_folder_once
from moca.pretrain.data.first_look import look_at_some
from moca.pretrain.data.views import AugmentedViews

# Tries before a sample is given up; with 1 % of corrupt images that is once in 10^16.
_REPLACEMENTS = 8


@DATASETS.register_module()
class UnlabeledImages(Dataset[dict[str, Any]]):
    """Random views of the images in a folder and all folders below it; labels are not read.

    ``dataset[i]``, or ``dataset[Draw(i, epoch, seed)]``, is a dict of

    - ``view1``, ``view2``, ...: ``[3, size, size]`` float32 tensors;
    - ``index``: of the image in `paths`;
    - ``corrupt_index``: of the image that was to be here but cannot be decoded, so that
      another one, drawn from the same generator, stands in; -1 if all is well.

    Args:
        data_root: A folder. Any depth; the kinds of :mod:`moca.images.listing`.
        views: An `AugmentedViews`, or the config of one.
        limit: Use at most this many images, evenly spaced through the sorted list.

    Attributes:
        paths: Path of each image relative to ``data_root``, sorted.

    Raises:
        UserError: The folder is missing, has fewer than two images, or none can be decoded.
    """

    def __init__(
        self,
        data_root: str | Path,
        views: dict[str, Any] | AugmentedViews,
        limit: int | None = None,
    ) -> None:
        self.data_root = Path(data_root)
        self.views: AugmentedViews = TRANSFORMS.build(views) if isinstance(views, dict) else views
        # Here, not in the workers: a forked worker inherits the locks of OpenCV's thread pool but
        # not its threads, and hangs as soon as it uses the pool or changes its size. Views are
        # too small to gain from more threads, and the workers take all cores.
        cv2.setNumThreads(1)
        self.paths, listing = find_images(self.data_root, limit)
        used = '' if len(self) == len(listing.paths) else f'{len(self):,} images of '
        print_log(f'Training on {used}{listing.describe()}', 'current')
        self._check_readable()

    def __setstate__(self, state: dict[str, Any]) -> None:
        # A worker that was spawned rather than forked.
        self.__dict__.update(state)
        cv2.setNumThreads(1)

    @property
    def metainfo(self) -> dict[str, Any]:
        """What mmengine stores in checkpoints, to warn of another data set on resuming."""
        return {'images': len(self)}

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, draw: Draw | int) -> dict[str, Any]:
        draw = draw if isinstance(draw, Draw) else Draw(draw)
        rng = draw.generator()
        index, corrupt_index = draw.image, -1
        for _ in range(_REPLACEMENTS):
            try:
                views = self._views_of(index, rng)
            except CorruptImage:
                corrupt_index = draw.image
                index = int(rng.integers(len(self)))
            else:
                return {**views, 'index': index, 'corrupt_index': corrupt_index}
        raise UserError(
            f'{self.path(draw.image)}: this and {_REPLACEMENTS - 1} other images drawn in its '
            'place cannot be decoded. Repair or remove the corrupt images.'
        )

    def path(self, index: int) -> Path:
        """Return the path of an image."""
        return self.data_root / self.paths[index]

    def open(self, index: int) -> EncodedImage:
        """Read an image's file and header.

        Raises:
            CorruptImage: It cannot be read, or its header is broken.
        """
        try:
            data = self.path(index).read_bytes()
        except OSError as error:
            raise CorruptImage(f'cannot read the file: {error.strerror}') from error
        return open_image(data)

    def fault(self, index: int) -> str | None:
        """Why an image cannot be decoded; None if it can."""
        try:
            self.open(index).decode()
        except CorruptImage as error:
            return str(error)
        return None

    def _views_of(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        encoded = self.open(index)
        params = self.views.sample(rng, encoded.height, encoded.width)
        reduction = self.views.reduction(params) if encoded.reducible else 1
        return self.views.render(encoded.decode(reduction), params, reduction)

    def _check_readable(self) -> None:
        """Fail at once where no image at all is one (say, pointers of Git LFS); warn of others."""
        found = look_at_some(self.data_root, self.paths)
        if all(found.faults.values()):
            path, fault = next(iter(found.faults.items()))
            raise UserError(
                f'{self.data_root}: none of {len(found.faults)} images tried can be decoded, for '
                f'example {path}: {fault}. Check how the files were copied.'
            )
        for note in found.notes:
            print_log(note, 'current', level=logging.WARNING)


def check_data_root(root: str | Path) -> None:
    """Verify that there is a folder; how much is in it is seen when it is searched.

    Raises:
        UserError: It is missing, or no folder.
    """
    root = Path(root)
    if not root.is_dir():
        problem = 'is not a folder' if root.exists() else 'does not exist'
        raise UserError(
            f'data_root {root} {problem} (looked for {root.absolute()}). Give the folder that '
            'holds the images.'
        )


def find_images(root: Path, limit: int | None = None) -> tuple[PathList, Listing]:
    """Images in a folder and all below it, or `limit` of them; paths from the folder, sorted.

    Of several processes one looks, for all of them.

    Returns:
        The paths, and all that lies in the folder.

    Raises:
        UserError: The folder is missing or holds fewer than two, or `limit` is below two.
    """
    check_data_root(root)
    if limit is not None and (not isinstance(limit, int) or limit < 2):
        raise UserError(f'limit is {limit!r}; pre-training needs at least 2 images.')
    listing = list_folder_once(root)
    paths = listing.paths
    if len(paths) < 2:
        raise UserError(
            f'data_root {root} holds {"one image" if paths else "no image"} '
            f'({sought(listing)}). Pre-training needs at least 2; give the folder that holds the '
            'images.'
        )
    if limit is None or limit >= len(paths):
        return paths, listing
    return PathList(paths[i * len(paths) // limit] for i in range(limit)), listing
