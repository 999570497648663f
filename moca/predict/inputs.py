"""What is to be predicted: files, folders, globs and videos, in order, each with a name of its own.

Names tell where results lie: an image's path below the folder that all inputs share, without its
ending; a video is a folder of its frames, ``000000`` and on.
"""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2

from moca.errors import UserError
from moca.images.files import list_images
from moca.images.image_io import read_pixels
from moca.images.transforms import Pixels

VIDEOS = frozenset(
    ('.mp4', '.m4v', '.avi', '.mov', '.mkv', '.webm', '.mpg', '.mpeg', '.wmv', '.flv')
)
"""Endings of what is taken for a video; an animated GIF is an image, of which the first counts."""


@dataclass(frozen=True)
class Input:
    """One file.

    Attributes:
        path: Of the file.
        name: Of its results, without an ending, with '/' between folders.
        file_name: Its path below the folder that all inputs share.
    """

    path: Path
    name: str
    file_name: str

    @property
    def is_video(self) -> bool:
        """Whether it has frames."""
        return self.path.suffix.lower() in VIDEOS


@dataclass(frozen=True)
class Frame:
    """One image, or one frame of a video.

    Attributes:
        source: The file.
        name: Of its results.
        file_name: Of the image, or of the frame within its video.
        pixels: RGB ``[H, W, 3]``.
    """

    source: Input
    name: str
    file_name: str
    pixels: Pixels


def find_inputs(given: Sequence[str | Path]) -> tuple[list[Input], Path]:
    """Find all files that are meant, each once.

    Args:
        given: Images, videos, folders, of whose images all are taken (of those below too), and
            patterns such as ``'frames/*.png'``, where ``**`` stands for folders.

    Returns:
        The files in the order given, those of a folder sorted; and the folder that they share.

    Raises:
        UserError: One of them is missing or holds no image, or two would have the same name.
    """
    found: dict[Path, None] = {}
    roots: list[Path] = []
    for text in map(str, given):
        paths, root = _meant(text)
        roots.append(root)
        found.update((Path(os.path.abspath(path)), None) for path in paths)  # without ..
    if not found:
        raise UserError('no input: name images, folders or videos.')
    shared = Path(os.path.commonpath([os.path.abspath(root) for root in roots]))
    names = {path: os.path.relpath(path, shared) for path in found}
    stems = Counter(str(Path(name).with_suffix('')) for name in names.values())
    inputs = []
    for path, name in names.items():
        stem = str(Path(name).with_suffix(''))
        # of two that differ in their endings alone, both keep them
        result = stem if stems[stem] == 1 else name
        inputs.append(Input(path, Path(result).as_posix(), Path(name).as_posix()))
    _refuse_shared_names(inputs)
    return inputs, shared


def _refuse_shared_names(inputs: Sequence[Input]) -> None:
    """Raise if a result would take the place of another one, or lie among a video's frames."""
    taken = Counter(item.name for item in inputs)
    videos = {item.name for item in inputs if item.is_video}
    for item in inputs:
        above = {parent.as_posix() for parent in Path(item.name).parents}
        if taken[item.name] > 1 or videos & above:
            raise UserError(
                f'{item.path}: its results would have the name {item.name} of those of another '
                'input. Predict one of them by a call of its own, with another --out.'
            )


def _meant(text: str) -> tuple[list[Path], Path]:
    """The files of an argument, and the folder below which they lie."""
    path = Path(text)
    if path.is_dir():
        return list_images(path, 'INPUTS'), path
    if path.is_file():
        return [path], path.parent
    if glob.has_magic(text):
        files = sorted(Path(name) for name in glob.glob(text, recursive=True))
        files = [name for name in files if name.is_file()]
        if files:
            fixed = [part for part in path.parts[:-1]]
            plain = next((i for i, part in enumerate(fixed) if glob.has_magic(part)), len(fixed))
            return files, Path(*fixed[:plain])
        raise UserError(f'{text}: no file has such a name.')
    raise UserError(f'{text}: no such file or folder. Name images, folders or videos.')


def read_input(item: Input) -> Iterator[Frame]:
    """Read an image, or the frames of a video one by one.

    Raises:
        UserError: It cannot be decoded; of a video that ends too early, after its last frame.
    """
    if not item.is_video:
        yield Frame(item, item.name, item.file_name, read_pixels(item.path))
        return
    number = -1
    for number, pixels in enumerate(read_video(item.path)):
        part = f'{number:06d}'
        yield Frame(item, f'{item.name}/{part}', f'{item.file_name}/{part}', pixels)


def read_video(path: Path) -> Iterator[Pixels]:
    """Decode the frames of a video to RGB ``[H, W, 3]``, by OpenCV.

    Raises:
        UserError: It has no frame that can be decoded, or fewer than half of those that its header
            promises (that number is an estimate in many files).
    """
    video = cv2.VideoCapture(str(path))
    promised, number = int(video.get(cv2.CAP_PROP_FRAME_COUNT)), 0
    try:
        while True:
            there, frame = video.read()
            if not there:
                break
            number += 1
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    finally:
        video.release()
    if not number:
        raise UserError(f'{path}: no frame of it can be decoded. Convert it to H.264 in MP4.')
    if number < promised / 2:
        raise UserError(
            f'{path}: {number} of about {promised} frames could be decoded. Repair it, or leave it '
            'out.'
        )
