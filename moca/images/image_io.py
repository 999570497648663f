"""Reading images: finding them in a folder, decoding them, recognizing broken ones.

Pixels are those of ``PIL.Image.open(path).convert('RGB')``, which is torchvision's loader: EXIF
orientation and alpha are ignored. Gray and RGB JPEGs and 8-bit gray and RGB PNGs go through
OpenCV, which gives the same pixels faster and can decode a JPEG at reduced scale; anything else
goes through PIL itself. The format is told by a file's content, never by its name.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import overload

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from moca.images.transforms import Pixels

EXTENSIONS = ('.jpg', '.jpeg', '.png', '.webp', '.bmp')

_JPEG_SIGNATURE = b'\xff\xd8'
JPEG_END = b'\xff\xd9'
_PNG_SIGNATURE = b'\x89PNG\r\n\x1a\n'
PNG_END = b'IEND\xaeB`\x82'  # an empty chunk's name and checksum
_START_OF_SCAN = 0xDA
# Start-of-frame markers: C0 to CF but for DHT (C4), JPG (C8) and DAC (CC).
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


class CorruptImage(Exception):
    """An image cannot be decoded whole; the message says why."""


class PathList(Sequence[str]):
    """Many strings in one block of memory.

    A list of ImageNet's 1.28 million paths would be copied into every DataLoader worker piece by
    piece, since reading a Python string writes its reference count.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        encoded = [path.encode('utf-8', 'surrogateescape') for path in paths]
        self._block = b''.join(encoded)
        self._ends = np.cumsum([0, *map(len, encoded)])

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(f'{index} of {len(self)} paths')
        part = self._block[self._ends[index] : self._ends[index + 1]]
        return part.decode('utf-8', 'surrogateescape')


def list_images(root: Path) -> list[str]:
    """Paths of all images below ``root``, relative to it, with '/', sorted; hidden ones left out.

    Links to folders are followed, as torchvision's ``ImageFolder`` does.
    """
    found = []
    for folder, subfolders, names in os.walk(root, followlinks=True):
        subfolders[:] = [name for name in subfolders if not name.startswith('.')]
        relative = Path(folder).relative_to(root)
        found += [
            (relative / name).as_posix()
            for name in names
            if name.lower().endswith(EXTENSIONS) and not name.startswith('.')
        ]
    return sorted(found)


@dataclass(frozen=True)
class EncodedImage:
    """An image of which only the header has been read.

    Attributes:
        height: In pixels, as stored.
        width: Likewise.
        reducible: Whether it can be decoded at a reduced scale.
    """

    height: int
    width: int
    reducible: bool
    _decode: Callable[[int], Pixels]

    def decode(self, reduction: int = 1) -> Pixels:
        """Decode to ``[height, width, 3]`` RGB, both divided by ``reduction`` and rounded up.

        Args:
            reduction: 1; or 2, 4, 8 if `reducible`.

        Raises:
            CorruptImage: The data are not a whole image.
        """
        return self._decode(reduction)


def open_image(data: bytes) -> EncodedImage:
    """Read an image's header.

    Raises:
        CorruptImage: The data are no image, or are visibly cut short.
    """
    if not data:
        raise CorruptImage('the file is empty')
    image = _read_header(data)
    if 0 in (image.height, image.width):
        raise CorruptImage(f'its header says {image.width} x {image.height} pixels')
    return image


def _read_header(data: bytes) -> EncodedImage:
    if data.startswith(_JPEG_SIGNATURE):
        return _open_jpeg(data)
    if data.startswith(_PNG_SIGNATURE):
        return _open_png(data)
    return _open_pillow(data)


def _open_jpeg(data: bytes) -> EncodedImage:
    position, frame = 2, b''
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            raise CorruptImage(f'byte {position} of the JPEG header is not a marker')
        marker = data[position + 1]
        if marker == 0xFF:  # padding
            position += 1
            continue
        length = int.from_bytes(data[position + 2 : position + 4], 'big')
        if marker in _START_OF_FRAME:
            frame = data[position + 4 : position + 2 + length]
        position += 2 + length
        if marker == _START_OF_SCAN:
            break
    if len(frame) < 6 or position > len(data):
        raise CorruptImage('the JPEG ends within its header')
    # OpenCV before 4.12 fills the missing rest of a cut JPEG with gray and reports no error. The
    # search starts after the header, whose thumbnail may have an end marker of its own.
    if data.rfind(JPEG_END, position) < 0:
        raise CorruptImage('the JPEG is cut short: it has no end marker')
    precision, components = frame[0], frame[5]
    if precision != 8 or components not in (1, 3):
        return _open_pillow(data)
    height, width = int.from_bytes(frame[1:3], 'big'), int.from_bytes(frame[3:5], 'big')
    return EncodedImage(height, width, True, partial(_decode_opencv, data))


def _open_png(data: bytes) -> EncodedImage:
    # Pillow does not look at the end of the file: it may fill an image from the zeros that a
    # download left where the rest was to be.
    if len(data) < 26 or data.rfind(PNG_END) < 0:
        raise CorruptImage('the PNG is cut short: it has no end marker')
    # IHDR: width, height, bit depth, color type (0 gray, 2 RGB).
    width, height = (int.from_bytes(data[start : start + 4], 'big') for start in (16, 20))
    if data[24] != 8 or data[25] not in (0, 2):
        return _open_pillow(data)
    return EncodedImage(height, width, False, partial(_decode_opencv, data))


def _decode_opencv(data: bytes, reduction: int) -> Pixels:
    flags = _REDUCED[reduction] | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise CorruptImage(f'OpenCV cannot decode it: {error}') from error
    if image is None:
        raise CorruptImage('OpenCV cannot decode it: the data are damaged or cut short')
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


def _open_pillow(data: bytes) -> EncodedImage:
    # Any exception: Pillow's plug-ins raise whatever broken bytes lead them to (OSError,
    # SyntaxError, ValueError, struct.error, IndexError, DecompressionBombError, ...).
    try:
        image = Image.open(io.BytesIO(data))
    except UnidentifiedImageError as error:
        raise CorruptImage('not an image, or its first bytes are damaged') from error
    except Exception as error:
        raise CorruptImage(f'Pillow cannot read its header: {error}') from error
    return EncodedImage(image.height, image.width, False, partial(_decode_pillow, image))


def _decode_pillow(image: Image.Image, reduction: int) -> Pixels:
    try:
        # np.array copies: torch wants memory that may be written.
        return np.array(image.convert('RGB'))
    except Exception as error:
        raise CorruptImage(f'Pillow cannot decode it: {error}') from error
