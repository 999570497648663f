"""Reading images: decoding them, recognizing broken ones. Every part of the suite reads by this.

Pixels are those of ``PIL.Image.open(path).convert('RGB')``, which is torchvision's loader: they are
as stored, so that a note on orientation (EXIF) is ignored; alpha is dropped; of an animation the
first frame counts, of a TIFF the first page. (The orientation tag of a TIFF is no such note: it
says in which order its rows are stored, and Pillow and OpenCV both follow it.) Two kinds differ
from Pillow: more than 8 bits are scaled as :mod:`moca.images.levels` says, where Pillow cuts them
off at 255, and a damaged JPEG is refused where libjpeg only warns.

Gray and RGB JPEGs and gray and RGB PNGs go through OpenCV, which gives the same pixels faster and
can decode a JPEG at reduced scale; anything else goes through Pillow. The format is told by a
file's content, never by its name.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from moca.errors import UserError
from moca.images.decoder_warnings import decode_listening
from moca.images.levels import UnknownRange, eight_bits
from moca.images.png import PNG_END, PNG_SIGNATURE, png_fault
from moca.images.transforms import Pixels

# Pillow's names of what is read; those that the installed Pillow lacks are passed over.
_FORMATS = ('JPEG', 'MPO', 'PNG', 'WEBP', 'BMP', 'DIB', 'TIFF', 'GIF', 'AVIF', 'PPM', 'JPEG2000')
Image.init()
FORMATS = tuple(name for name in _FORMATS if name in Image.OPEN)

# OpenCV's own limit and the variable that sets it (docs.opencv.org, "OpenCV environment
# variables"); Pillow refuses from 179 million pixels on, fewer than a scanner's or satellite's.
LIMIT_VARIABLE = 'OPENCV_IO_MAX_IMAGE_PIXELS'
PIXEL_LIMIT = int(os.environ.get(LIMIT_VARIABLE) or 2**30)
Image.MAX_IMAGE_PIXELS = PIXEL_LIMIT

_JPEG_SIGNATURE = b'\xff\xd8'
JPEG_END = b'\xff\xd9'
_START_OF_SCAN = 0xDA
# Start-of-frame markers: C0 to CF but for DHT (C4), JPG (C8) and DAC (CC).
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
_BITS_PER_SAMPLE = 258  # TIFF 6.0, section 8


class CorruptImage(Exception):
    """An image cannot be decoded whole; the message says why."""


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
        CorruptImage: The data are no image, are visibly cut short, or have more pixels than
            `PIXEL_LIMIT`.
    """
    if not data:
        raise CorruptImage('the file is empty')
    image = _read_header(data)
    if 0 in (image.height, image.width):
        raise CorruptImage(f'its header says {image.width} x {image.height} pixels')
    if image.height * image.width > PIXEL_LIMIT:
        raise CorruptImage(
            f'{image.width} x {image.height} pixels are more than {PIXEL_LIMIT}: cut it into '
            f'tiles, or set the environment variable {LIMIT_VARIABLE}'
        )
    return image


def read_pixels(path: str | Path) -> Pixels:
    """Decode a file to RGB ``[H, W, 3]``.

    Raises:
        UserError: It cannot be read or decoded.
    """
    try:
        return open_image(Path(path).read_bytes()).decode()
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror}).') from error
    except CorruptImage as error:
        raise UserError(f'{path}: cannot be decoded ({error}). Repair or remove it.') from error


def _read_header(data: bytes) -> EncodedImage:
    if data.startswith(_JPEG_SIGNATURE):
        return _open_jpeg(data)
    if data.startswith(PNG_SIGNATURE):
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
    # IHDR: width, height, bit depth, color type (0 gray, 2 RGB; 4 and 6 the same with alpha).
    width, height = (int.from_bytes(data[start : start + 4], 'big') for start in (16, 20))
    depth, color = data[24], data[25]
    if depth == 16:
        decode: Callable[[int], Pixels] = partial(_decode_deep, data)
    elif depth == 8 and color in (0, 2):
        decode = partial(_decode_opencv, data)
    else:
        found = _open_pillow(data)
        height, width, decode = found.height, found.width, found.decode
    return EncodedImage(height, width, False, partial(_decode_verified, data, decode))


def _decode_verified(data: bytes, decode: Callable[[int], Pixels], reduction: int) -> Pixels:
    # OpenCV and Pillow make an image of some PNGs whose checksums are wrong
    if fault := png_fault(data):
        raise CorruptImage(fault)
    return decode(reduction)


def _decode_opencv(data: bytes, reduction: int) -> Pixels:
    image = _imdecode(data, _REDUCED[reduction] | cv2.IMREAD_IGNORE_ORIENTATION)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


def _decode_deep(data: bytes, reduction: int) -> Pixels:
    values = _imdecode(data, cv2.IMREAD_UNCHANGED)
    colors = values[..., 2::-1] if values.ndim == 3 else values[..., None].repeat(3, axis=2)
    return np.ascontiguousarray(_levels(colors))


def _imdecode(data: bytes, flags: int) -> npt.NDArray[Any]:
    image = _decode_and_listen(data, flags)
    if image is None:
        raise CorruptImage('OpenCV cannot decode it: the data are damaged or cut short')
    return image


def _decode_and_listen(data: bytes, flags: int) -> Any:
    encoded = np.frombuffer(data, np.uint8)
    try:
        if not data.startswith(_JPEG_SIGNATURE):
            return cv2.imdecode(encoded, flags)
        image, damage = decode_listening(lambda: cv2.imdecode(encoded, flags))
    except cv2.error as error:
        raise CorruptImage(f'OpenCV cannot decode it: {error.err or error}') from error
    if damage:
        raise CorruptImage(f'its data are damaged: {damage}')
    return image


def _levels(values: npt.NDArray[Any]) -> Pixels:
    try:
        return eight_bits(values)
    except UnknownRange as error:
        raise CorruptImage(str(error)) from error


def _open_pillow(data: bytes) -> EncodedImage:
    # Any exception: Pillow's plug-ins raise whatever broken bytes lead them to (OSError,
    # SyntaxError, ValueError, struct.error, IndexError, DecompressionBombError, ...).
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        bits = getattr(image, 'tag_v2', {}).get(_BITS_PER_SAMPLE, 8)
    except UnidentifiedImageError as error:
        size = _size_by_opencv(data)
        if size is not None:
            return EncodedImage(*size, False, partial(_decode_deep, data))
        raise CorruptImage('not an image, or its first bytes are damaged') from error
    except Exception as error:
        raise CorruptImage(f'Pillow cannot read its header: {error}') from error
    decode: Callable[[int], Pixels] = partial(_decode_pillow, data, image)
    if isinstance(bits, tuple) and len(bits) > 1 and max(bits) > 8:
        decode = partial(_decode_deep, data)  # of which Pillow keeps 8
    return EncodedImage(image.height, image.width, False, decode)


def _size_by_opencv(data: bytes) -> tuple[int, int] | None:
    """Height and width of a TIFF that Pillow does not know (floats in colors); None if broken."""
    if data[:4] not in (b'II*\0', b'MM\0*'):
        return None
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    return None if image is None else (image.shape[0], image.shape[1])


def _decode_pillow(data: bytes, image: Image.Image, reduction: int) -> Pixels:
    if data.startswith(_JPEG_SIGNATURE):  # of CMYK: only for what libjpeg says
        _decode_and_listen(data, cv2.IMREAD_COLOR)
    try:
        if image.mode.startswith(('I', 'F')):
            values = np.asarray(image)[..., None].repeat(3, axis=2)
        else:
            # np.array copies: torch wants memory that may be written.
            values = np.array(image.convert('RGB'))
    except Exception as error:
        raise CorruptImage(f'Pillow cannot decode it: {error}') from error
    return _levels(values)
