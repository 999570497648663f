"""Decoding beside PIL's, which is torchvision's loader; and recognizing what is broken."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from moca.images.image_io import CorruptImage, open_image
from tests.images.photographs import photograph

PHOTOGRAPH = Image.fromarray(photograph(75, 101, seed=0))
# Top row to the left side: a quarter turn, which torchvision's loader does not undo.
ORIENTATION_TAG, QUARTER_TURN = 0x0112, 6


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def turned() -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = QUARTER_TURN
    return encode(PHOTOGRAPH, 'JPEG', exif=exif)


def with_alpha(mode: str) -> Image.Image:
    image = PHOTOGRAPH.convert(mode)
    image.putalpha(Image.linear_gradient('L').resize(image.size))
    return image


FILES = {
    'jpeg': encode(PHOTOGRAPH, 'JPEG'),
    'jpeg 4:4:4': encode(PHOTOGRAPH, 'JPEG', quality=95, subsampling=0),
    'jpeg progressive': encode(PHOTOGRAPH, 'JPEG', progressive=True),
    'jpeg gray': encode(PHOTOGRAPH.convert('L'), 'JPEG'),
    'jpeg CMYK': encode(PHOTOGRAPH.convert('CMYK'), 'JPEG'),
    'jpeg turned': turned(),
    'jpeg and more': encode(PHOTOGRAPH, 'JPEG') + b'appended by a camera',
    'png': encode(PHOTOGRAPH, 'PNG'),
    'png gray': encode(PHOTOGRAPH.convert('L'), 'PNG'),
    'png with a transparent color': encode(PHOTOGRAPH, 'PNG', transparency=(1, 2, 3)),
    'png palette': encode(PHOTOGRAPH.quantize(32), 'PNG'),
    'png palette, transparent': encode(PHOTOGRAPH.quantize(32), 'PNG', transparency=3),
    'png alpha': encode(with_alpha('RGBA'), 'PNG'),
    'png gray alpha': encode(with_alpha('LA'), 'PNG'),
    'png 1 bit': encode(PHOTOGRAPH.convert('1'), 'PNG'),
    'webp': encode(PHOTOGRAPH, 'WEBP'),
    'webp alpha': encode(with_alpha('RGBA'), 'WEBP'),
    'bmp': encode(PHOTOGRAPH, 'BMP'),
}


@pytest.mark.parametrize('name', FILES)
def test_pixels_are_those_of_pil(name: str) -> None:
    expected = np.asarray(Image.open(io.BytesIO(FILES[name])).convert('RGB'))
    encoded = open_image(FILES[name])
    decoded = encoded.decode()
    assert (encoded.height, encoded.width) == (75, 101)
    assert decoded.flags.writeable
    np.testing.assert_array_equal(decoded, expected)


@pytest.mark.parametrize('factor', [2, 4, 8])
@pytest.mark.parametrize('name', ['jpeg', 'jpeg progressive', 'jpeg gray', 'jpeg turned'])
def test_reduced_decoding_is_libjpegs(name: str, factor: int) -> None:
    image = Image.open(io.BytesIO(FILES[name]))
    image.draft(None, (101 // factor, 75 // factor))
    assert image.size == (-(-101 // factor), -(-75 // factor))
    encoded = open_image(FILES[name])
    assert encoded.reducible
    np.testing.assert_array_equal(encoded.decode(factor), np.asarray(image.convert('RGB')))


def test_only_what_libjpeg_can_reduce_is_reducible() -> None:
    assert not any(open_image(FILES[name]).reducible for name in ('jpeg CMYK', 'png', 'webp'))


def assert_corrupt(data: bytes, message: str = '.') -> None:
    with pytest.raises(CorruptImage, match=message):
        open_image(data).decode()


@pytest.mark.parametrize('share', [0.02, 0.2, 0.5, 0.9])
@pytest.mark.parametrize('name', [name for name in FILES if name != 'jpeg and more'])
def test_a_cut_file_is_corrupt(name: str, share: float) -> None:
    data = FILES[name]
    assert_corrupt(data[: int(len(data) * share)])


@pytest.mark.parametrize('name', ['jpeg', 'jpeg progressive', 'png', 'png alpha'])
def test_a_file_of_which_half_never_arrived_is_corrupt(name: str) -> None:
    data = FILES[name]
    assert_corrupt(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))


@pytest.mark.parametrize('name', ['png', 'png gray', 'png alpha'])
def test_a_damaged_png_is_corrupt(name: str) -> None:
    data = bytearray(FILES[name])
    middle = len(data) // 2
    data[middle : middle + 8] = bytes(byte ^ 0x5A for byte in data[middle : middle + 8])
    assert_corrupt(bytes(data))


def test_what_is_no_image_is_corrupt() -> None:
    assert_corrupt(b'', 'empty')
    assert_corrupt(b'version https://git-lfs.github.com/spec/v1\noid sha256:0\n', 'not an image')
    assert_corrupt(b'\xff\xd8', 'within its header')
    assert_corrupt(b'\xff\xd8 no marker here', 'not a marker')
    assert_corrupt(b'\x89PNG\r\n\x1a\n')


def test_a_cut_jpeg_is_told_without_the_help_of_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    # As OpenCV before 4.12, which fills what is missing with gray.
    monkeypatch.setattr(cv2, 'imdecode', lambda *_: np.full((75, 101, 3), 128, np.uint8))
    thumbnail = encode(PHOTOGRAPH.resize((16, 12)), 'JPEG')
    data = encode(PHOTOGRAPH, 'JPEG', exif=b'Exif\x00\x00' + thumbnail)
    assert open_image(data).decode().shape == (75, 101, 3)
    cut = data[: len(data) * 3 // 4]
    assert cut.count(b'\xff\xd9') == 1, 'the end marker of the thumbnail'
    assert_corrupt(cut, 'cut short')
    assert_corrupt(data[:-1], 'cut short')
