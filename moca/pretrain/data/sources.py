"""Where unlabeled images come from: a folder of files, or tar shards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from moca.errors import UserError
from moca.images.files import sought
from moca.images.image_io import CorruptImage
from moca.images.listing import PathList, list_folder_once
from moca.pretrain.data.shards.images import WINDOW, ShardImages
from moca.pretrain.data.shards.storage import find_shards, look_at, names_shards


class ImageSource(Protocol):
    """Images by number.

    Attributes:
        digest: A text for which images there are and in which order; two sources that have the
            same one have the same images.
    """

    digest: str

    @property
    def paths(self) -> Sequence[str]:
        """Of the images, from the data root."""

    def __len__(self) -> int: ...

    def describe(self) -> str:
        """A line for logs: how many images there are, and what is left out."""

    def path(self, index: int) -> Path | str:
        """Where an image is, for messages."""

    def read(self, index: int) -> bytes:
        """The bytes of an image, or a `CorruptImage` is raised."""

    def read_many(self, indices: Sequence[int]) -> Iterator[bytes | CorruptImage]:
        """The bytes of several images one by one, or why they cannot be read."""

    def shuffled(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """An order of all images, ``[N]``."""


class FolderImages:
    """The image files of a folder and of all folders below it; all processes have to make it.

    Args:
        root: The folder.
        limit: Use at most this many images, evenly spaced through the sorted list.

    Raises:
        UserError: The folder is missing or holds fewer than two.
    """

    def __init__(self, root: str | Path, limit: int | None = None) -> None:
        _check_folder(root)
        self.root = Path(root)
        listing = list_folder_once(root)
        found = len(listing.paths)
        if found < 2:
            raise UserError(
                f'data_root {root} holds {"one image" if found else "no image"} '
                f'({sought(listing)}). Pre-training needs at least 2; give the folder that holds '
                'the images.'
            )
        self.paths = listing.paths
        if limit is not None and limit < found:
            self.paths = PathList(listing.paths[i * found // limit] for i in range(limit))
        used = '' if len(self) == found else f'{len(self):,} images of '
        self._about = f'{used}{listing.describe()}'
        self.digest = sha256('\0'.join(self.paths).encode('utf-8', 'surrogateescape')).hexdigest()

    def __len__(self) -> int:
        return len(self.paths)

    def describe(self) -> str:
        """A line for logs: how many images there are, and what is left out."""
        return self._about

    def path(self, index: int) -> Path:
        """The path of an image."""
        return self.root / self.paths[index]

    def read(self, index: int) -> bytes:
        """The bytes of an image.

        Raises:
            CorruptImage: They cannot be read.
        """
        try:
            return self.path(index).read_bytes()
        except OSError as error:
            raise CorruptImage(f'cannot read the file: {error.strerror}') from error

    def read_many(self, indices: Sequence[int]) -> Iterator[bytes | CorruptImage]:
        """Yield the bytes of several images one by one, or why they cannot be read."""
        for index in indices:
            try:
                yield self.read(index)
            except CorruptImage as error:
                yield error

    def shuffled(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """A permutation of all images, ``[N]``."""
        return rng.permutation(len(self))


def open_images(
    root: str | Path,
    limit: int | None = None,
    members: str | None = None,
    window: int | None = None,
) -> ImageSource:
    """The images of a folder or of tar shards, whichever a data root names.

    Of several processes, which all have to call it, one looks, for all of them.

    Args:
        root: A folder of image files or of tars, or what else
            :func:`moca.pretrain.data.shards.storage.find_shards` takes.
        limit: Use at most this many images, evenly spaced through them.
        members: Of shards: the pattern of members that are images, see `ShardImages`.
        window: Of shards: images among which one is shuffled, see `ShardImages`.

    Raises:
        UserError: There are fewer than two images; a number is out of its range; there are members
            or a window of files.
    """
    if limit is not None and (not isinstance(limit, int) or limit < 2):
        raise UserError(f'limit is {limit!r}; pre-training needs at least 2 images.')
    if window is not None and (not isinstance(window, int) or window < 1):
        raise UserError(f'shuffle_window is {window!r}; give a number of images from 1 up.')
    if names_shards(str(root)):
        return ShardImages(str(root), limit, members, window or WINDOW)
    if members is not None or window is not None:
        raise UserError(
            f'data_root {root} is a folder of files, for which members and shuffle_window mean '
            'nothing. Leave them out, or give shards.'
        )
    return FolderImages(root, limit)


def check_data_root(root: str | Path) -> None:
    """Verify that there is a folder, or a first shard; how much is in it is seen when it is read.

    Raises:
        UserError: It is missing, or no folder and no shards.
    """
    if names_shards(str(root)):
        look_at(find_shards(str(root))[0])
    else:
        _check_folder(root)


def _check_folder(root: str | Path) -> None:
    root = Path(root)
    if not root.is_dir():
        problem = 'is not a folder' if root.exists() else 'does not exist'
        raise UserError(
            f'data_root {root} {problem} (looked for {root.absolute()}). Give the folder that '
            'holds the images, or tar shards.'
        )
