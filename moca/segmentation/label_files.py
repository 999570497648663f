"""Files of label maps: their values as stored, and formats that do not keep them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from moca.images.inspection import inspect

NO_COLORS = (
    'not class numbers. Write one channel of class numbers; a palette may only say how to show them'
)
_LOSSY = {'JPEG': 'JPEG', 'MPO': 'JPEG', 'JPEG2000': 'JPEG 2000', 'AVIF': 'AVIF'}
"""Pillow's names of formats that change values, or usually do, and what people call them."""

_WEBP_HEADER = 12  # "RIFF", the size, "WEBP"; then chunks: a name, a size, bytes, padded to even
_WEBP_LOSSY = b'VP8 '  # a chunk of the lossless kind is "VP8L" (RFC 9649, section 2)


class LabelFault(ValueError):
    """The content of a label map is wrong; the text does not name the file."""


def read_values(path: Path) -> NDArray[Any]:
    """Read the content of a label map as `LoadCheckedAnnotations` does by default.

    Raises:
        LabelFault: if it cannot be read.
    """
    try:
        return decode_values(path.read_bytes())
    except OSError as error:
        raise LabelFault(f'cannot be read as a label map ({error})') from error


def decode_values(data: bytes) -> NDArray[Any]:
    """Decode a label map; of a palette, the indices count.

    Returns:
        The values as stored, `[H, W]` if there is one channel.

    Raises:
        LabelFault: if the data are no image, or of a format that does not keep values.
    """
    stream = io.BytesIO(data)
    try:
        with Image.open(stream) as image:
            fault = lossy_fault(image, io.BytesIO(data))
            values = None if fault else one_channel(np.asarray(image))
    except UnidentifiedImageError as error:
        raise LabelFault(
            'cannot be read as a label map (no image format that Pillow knows): write PNG'
        ) from error
    except Exception as error:  # whatever broken bytes lead Pillow's plug-ins to
        raise LabelFault(f'cannot be read as a label map ({error})') from error
    if values is None:
        raise LabelFault(fault or '')
    return values


def one_channel(values: NDArray[Any]) -> NDArray[Any]:
    """Drop the third axis of a decoded label map `[H, W, 1]`."""
    return values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values


def lossy_fault(image: Image.Image, stream: BinaryIO) -> str | None:
    """Say that a file's compression changes class numbers; None if it keeps them.

    Args:
        image: the opened file.
        stream: the same file from its beginning.
    """
    name = _LOSSY.get(image.format or '')
    if image.format == 'WEBP' and _is_lossy_webp(stream):
        name = 'lossy WebP'
    if image.format == 'TIFF' and 'jpeg' in str(image.info.get('compression')):
        name = 'TIFF with JPEG compression'
    if name is None:
        return None
    return (
        f'is a {name} file, whose compression changes class numbers near every border. Write the '
        'label maps anew as PNG from what they were drawn with; converting this file does not '
        'bring the numbers back'
    )


def _is_lossy_webp(stream: BinaryIO) -> bool:
    stream.seek(_WEBP_HEADER)
    while len(head := stream.read(8)) == 8:
        if head[:4] == _WEBP_LOSSY:
            return True
        if head[:4] == b'ANMF':  # a frame of an animation: 16 bytes, then chunks again
            stream.seek(16, io.SEEK_CUR)
            continue
        size = int.from_bytes(head[4:], 'little')
        stream.seek(size + size % 2, io.SEEK_CUR)
    return False


def size_fault(found: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    """Say that a label map is of another size than its image; both are (height, width)."""
    return (
        f'is {found[1]} x {found[0]}, its image {wanted[1]} x {wanted[0]} (width x height): is '
        'it the label map of another image, or was one of the two resized?'
    )


def header_fault(label: Path, image: Path) -> str | None:
    """What the headers of a label map and its image tell to be wrong, without decoding either.

    A kind of file that Pillow does not know is passed over.
    """
    try:
        with open(label, 'rb') as stream, Image.open(label) as file:
            mode, size = file.mode, file.size
            lossy = lossy_fault(file, stream)
    except OSError:
        return None
    if lossy:
        return lossy
    if mode not in ('1', 'L', 'P') and not mode.startswith(('I', 'F')):
        return f'holds colors ({mode}), {NO_COLORS}'
    about = inspect(image, decode=False)
    found = (size[1], size[0])
    if not about.width or found == about.size:
        return None
    return size_fault(found, about.size) + about.size_note(*found)
