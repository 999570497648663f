"""What an image file is: size, orientation, kind of pixels, and what is damaged in it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image

from moca.images.image_io import (
    FORMATS,
    JPEG_END,
    CorruptImage,
    open_image,
)
from moca.images.png import PNG_SIGNATURE, png_fault

_TAIL = 4096  # bytes
_JPEG_SIGNATURE = b'\xff\xd8'
_UPRIGHT, _QUARTER_TURNS = 1, (5, 6, 7, 8)  # EXIF 2.3, tag 0x0112

TURNED_REMEDY = (
    'Sizes, boxes and label maps refer to the pixels as stored, and EXIF is ignored: turn the '
    'image itself or its labels (docs/images.md)'
)


@dataclass(frozen=True)
class Inspection:
    """What is known of an image file.

    Attributes:
        height: In pixels as stored, which is as every part of the suite reads it; 0 if unknown.
        width: Likewise.
        orientation: By its EXIF data, 1 (upright) to 8; it is ignored.
        mode: Pillow's name of its kind of pixels, such as ``RGB``, ``I;16`` or ``CMYK``; empty if
            Pillow does not know it.
        damage: Why it cannot be read whole; None if nothing was found.
        constant: Whether all its pixels are the same; False where they were not looked at.
    """

    height: int = 0
    width: int = 0
    orientation: int = _UPRIGHT
    mode: str = ''
    damage: str | None = None
    constant: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width

    @property
    def turned(self) -> bool:
        """Whether EXIF says to show it otherwise than stored."""
        return self.orientation != _UPRIGHT

    def oddities(self) -> Iterator[str]:
        """Yield what is no fault, but what the owner should know, in the plural."""
        if self.turned:
            yield 'images that EXIF says to turn; it is ignored, and labels are of stored pixels'
        if self.constant:
            yield 'images of a single color'

    def size_note(self, height: int, width: int) -> str:
        """A clause on EXIF where another size (of annotations) is that of the turned image."""
        quarter = self.orientation in _QUARTER_TURNS
        if quarter and (height, width) == (self.width, self.height) and height != width:
            return (
                f' (its EXIF orientation is {self.orientation}, a quarter turn, and the turned '
                f'image was annotated. {TURNED_REMEDY})'
            )
        return ''


def inspect(path: str | Path | bytes, decode: bool = True) -> Inspection:
    """Look at an image file; what is wrong with it is told, not raised.

    Args:
        path: Of the file, or what is in it.
        decode: Whether to decode it, which finds all damage that can be found; else only its
            header is read, of which no damage is told.
    """
    try:
        if not decode and not isinstance(path, bytes):
            with open(path, 'rb') as file:
                return _header(file)
        data = path if isinstance(path, bytes) else Path(path).read_bytes()
    except OSError as error:
        return Inspection(damage=f'cannot read the file: {error.strerror}')
    found = _header(io.BytesIO(data))
    if not decode:
        return found
    try:
        pixels = open_image(data).decode()
    except CorruptImage as error:
        return Inspection(**{**vars(found), 'damage': str(error)})
    height, width = pixels.shape[:2]
    constant = bool((pixels == pixels[0, 0]).all())
    return Inspection(height, width, found.orientation, found.mode, None, constant)


def _header(file: Any) -> Inspection:
    try:
        with Image.open(file, formats=FORMATS) as image:
            orientation = _orientation(image)
            return Inspection(image.height, image.width, orientation, image.mode)
    except Exception:  # whatever broken bytes lead Pillow's plug-ins to
        return Inspection()


def _orientation(image: Image.Image) -> int:
    # Pillow and OpenCV follow a TIFF's own tag as they decode it. A PNG without EXIF data in front
    # would be decoded in search of some behind.
    if image.format == 'TIFF' or (image.format == 'PNG' and 'exif' not in image.info):
        return _UPRIGHT
    value = image.getexif().get(ExifTags.Base.Orientation, _UPRIGHT)
    return value if value in range(1, 9) else _UPRIGHT


def quick_fault(path: str | Path) -> str | None:
    """Why an image file is damaged or no image; None if it looks whole.

    Of a JPEG only the first and the last bytes are read, about 20,000 files a second from a local
    disk, and what looks cut off is decoded; of a PNG the checksums of all its parts are verified;
    files of other formats, which have none, are decoded.
    """
    try:
        with open(path, 'rb') as file:
            data = file.read(_TAIL)
            if data.startswith(_JPEG_SIGNATURE):
                file.seek(max(file.seek(0, 2) - _TAIL, 0))
                if JPEG_END in file.read():
                    return None
                file.seek(0)
                data = b''
            data += file.read()
    except OSError as error:
        return f'cannot read the file: {error.strerror}'
    if data.startswith(PNG_SIGNATURE):
        return png_fault(data)
    try:
        open_image(data).decode()
    except CorruptImage as error:
        return str(error)
    return None
