"""A zoo of image files: every reader of the suite sees the pixels that were put into them.

What is expected is worked out by hand from the arrays that were written, not read back.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mmengine.registry import TRANSFORMS
from numpy.typing import NDArray
from PIL import Image

from moca.errors import UserError
from moca.evaluation.labeled import read_image
from moca.images import image_io, loading
from moca.images.decoder_warnings import decode_listening
from moca.images.image_io import CorruptImage, open_image
from moca.images.inspection import inspect, quick_fault
from moca.pretrain.data.dataset import UnlabeledImages
from tests.images.photographs import photograph

Array = NDArray[Any]

COLORS = photograph(40, 56, seed=3)
GRAY = COLORS[..., 1].copy()
RAMP = np.linspace(0, 1, 56)[None] * np.ones((40, 1))
ALPHA = (255 * RAMP).astype(np.uint8)
ORIENTATION = 0x0112


def gray(values: Array) -> Array:
    return np.stack([values] * 3, axis=2)


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def by_opencv(ending: str, values: Array) -> bytes:
    plain = [cv2.IMWRITE_TIFF_COMPRESSION, 1] if ending == '.tif' else []
    done, data = cv2.imencode(ending, values, plain)
    assert done
    return data.tobytes()


def exif(orientation: int) -> Image.Exif:
    note = Image.Exif()
    note[ORIENTATION] = orientation
    return note


def with_alpha() -> Image.Image:
    return Image.fromarray(np.dstack([COLORS, ALPHA]), 'RGBA')


def animated(kind: str, **options: Any) -> bytes:
    frames = [Image.fromarray(GRAY), Image.fromarray(255 - GRAY)]
    return encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)


def palette() -> tuple[Image.Image, Array]:
    indices = np.arange(40 * 56, dtype=np.uint8).reshape(40, 56) % 7
    colors = np.random.default_rng(0).integers(0, 256, (7, 3)).astype(np.uint8)
    image = Image.fromarray(indices, 'P')
    image.putpalette(colors.tobytes())
    return image, colors[indices]


def whole(bits: int) -> Array:
    """A ramp over all values of so many bits, in 16."""
    return (RAMP * (2**bits - 1)).astype(np.uint16)


def pgm(values: Array, largest: int) -> bytes:
    height, width = values.shape
    return f'P5 {width} {height} {largest}\n'.encode() + values.astype('>u2').tobytes()


PALETTE, PALETTE_COLORS = palette()
PLAIN = Image.fromarray(COLORS)
BITS = GRAY > 128
FLOATS = RAMP.astype(np.float32)
DEEP = np.stack([whole(16), whole(16)[:, ::-1], whole(16)[::-1]], axis=2)
TWELVE = DEEP >> 4
# Name: bytes and expected pixels, which are met within one level (8 for lossy ones).
ZOO: dict[str, tuple[bytes, Array]] = {
    'png': (encode(PLAIN, 'PNG'), COLORS),
    'webp': (encode(PLAIN, 'WEBP', lossless=True), COLORS),
    'bmp': (encode(PLAIN, 'BMP'), COLORS),
    'tif': (encode(PLAIN, 'TIFF'), COLORS),
    'tif, packed': (encode(PLAIN, 'TIFF', compression='tiff_lzw'), COLORS),
    'ppm': (encode(PLAIN, 'PPM'), COLORS),
    'jp2': (encode(PLAIN, 'JPEG2000', irreversible=False), COLORS),
    'png, gray': (encode(Image.fromarray(GRAY), 'PNG'), gray(GRAY)),
    'png, 1 bit': (encode(Image.fromarray(BITS), 'PNG'), gray(255 * BITS)),
    'tif, 1 bit': (encode(Image.fromarray(BITS), 'TIFF'), gray(255 * BITS)),
    'png, palette': (encode(PALETTE, 'PNG'), PALETTE_COLORS),
    'png, palette, transparent': (encode(PALETTE, 'PNG', transparency=3), PALETTE_COLORS),
    'bmp, palette': (encode(PALETTE, 'BMP'), PALETTE_COLORS),
    'gif': (encode(PALETTE, 'GIF'), PALETTE_COLORS),
    'png, alpha': (encode(with_alpha(), 'PNG'), COLORS),
    'webp, alpha': (encode(with_alpha(), 'WEBP', lossless=True, exact=True), COLORS),
    'png, gray and alpha': (
        encode(Image.merge('LA', [Image.fromarray(GRAY), Image.fromarray(ALPHA)]), 'PNG'),
        gray(GRAY),
    ),
    'gif, animated': (animated('GIF'), gray(GRAY)),
    'png, animated': (animated('PNG'), gray(GRAY)),
    'webp, animated': (animated('WEBP', lossless=True), gray(GRAY)),
    'tif, pages': (animated('TIFF'), gray(GRAY)),
    'png, 16 bits': (encode(Image.fromarray(whole(16)), 'PNG'), gray(255 * RAMP)),
    'png, 12 of 16 bits': (encode(Image.fromarray(whole(12)), 'PNG'), gray(255 * RAMP)),
    'png, 8 of 16 bits': (encode(Image.fromarray(GRAY.astype(np.uint16)), 'PNG'), gray(GRAY)),
    'tif, 16 bits': (encode(Image.fromarray(whole(16)), 'TIFF'), gray(255 * RAMP)),
    'tif, 12 of 16 bits': (encode(Image.fromarray(whole(12)), 'TIFF'), gray(255 * RAMP)),
    'pgm, 16 bits': (pgm(whole(16), 65535), gray(255 * RAMP)),
    'pgm, 12 bits': (pgm(whole(12), 4095), gray(255 * RAMP)),
    'png, colors, 16 bits': (by_opencv('.png', DEEP[..., ::-1]), DEEP / 257),
    'png, colors, 12 of 16 bits': (by_opencv('.png', TWELVE[..., ::-1]), DEEP / 257),
    'png, colors and alpha, 16 bits': (
        by_opencv('.png', np.dstack([DEEP[..., ::-1], whole(16)])),
        DEEP / 257,
    ),
    'tif, colors, 16 bits': (by_opencv('.tif', DEEP[..., ::-1]), DEEP / 257),
    'tif, colors, 12 of 16 bits': (by_opencv('.tif', TWELVE[..., ::-1]), DEEP / 257),
    'tif, 32 bits': (encode(Image.fromarray(whole(16).astype(np.int32)), 'TIFF'), gray(255 * RAMP)),
    'tif, floats to 1': (encode(Image.fromarray(FLOATS), 'TIFF'), gray(255 * RAMP)),
    'tif, floats beyond 1': (
        encode(Image.fromarray(1.04 * FLOATS - 0.02), 'TIFF'),
        gray(255 * np.clip(1.04 * RAMP - 0.02, 0, 1)),
    ),
    'tif, floats to 255': (encode(Image.fromarray(GRAY.astype(np.float32)), 'TIFF'), gray(GRAY)),
    'tif, colors in floats': (
        by_opencv('.tif', (COLORS[..., ::-1] / 255).astype(np.float32)),
        COLORS,
    ),
}  # fmt: skip
SMOOTH = np.stack([ALPHA, 255 - ALPHA, np.full_like(ALPHA, 90)], axis=2)
LOSSY: dict[str, tuple[bytes, Array]] = {
    'jpeg': (encode(Image.fromarray(SMOOTH), 'JPEG', quality=95), SMOOTH),
    'jpeg, gray': (encode(Image.fromarray(ALPHA), 'JPEG', quality=95), gray(ALPHA)),
    'jpeg, CMYK': (
        encode(Image.fromarray(SMOOTH).convert('CMYK'), 'JPEG', quality=95),
        SMOOTH,
    ),
    'avif': (encode(Image.fromarray(SMOOTH), 'AVIF', quality=95), SMOOTH),
}
for turn in range(1, 9):
    ZOO[f'png, EXIF {turn}'] = (encode(PLAIN, 'PNG', exif=exif(turn)), COLORS)
    ZOO[f'webp, EXIF {turn}'] = (encode(PLAIN, 'WEBP', lossless=True, exif=exif(turn)), COLORS)
    data = encode(Image.fromarray(SMOOTH), 'JPEG', quality=95, exif=exif(turn))
    LOSSY[f'jpeg, EXIF {turn}'] = (data, SMOOTH)


def by_pretraining(path: Path) -> Array:
    return open_image(path.read_bytes()).decode()


def by_evaluation(path: Path) -> Array:
    return np.asarray(read_image(path))


def by_transfer(path: Path) -> Array:
    load = TRANSFORMS.build(dict(type='LoadReadableImage'))
    return load(dict(img_path=str(path)))['img'][..., ::-1]


READERS = (by_pretraining, by_evaluation, by_transfer)


@pytest.mark.parametrize('read', READERS)
@pytest.mark.parametrize('name', [*ZOO, *LOSSY])
def test_pixels(name: str, read: Callable[[Path], Array], tmp_path: Path) -> None:
    encoded, expected = {**ZOO, **LOSSY}[name]
    (tmp_path / 'file').write_bytes(encoded)
    pixels = read(tmp_path / 'file')
    assert pixels.dtype == np.uint8
    assert pixels.shape == (40, 56, 3)
    assert np.abs(pixels - expected.astype(float)).max() <= (8 if name in LOSSY else 1)


@pytest.mark.parametrize('name', [*ZOO, *LOSSY])
def test_what_is_said_of_a_whole_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / 'file'
    path.write_bytes({**ZOO, **LOSSY}[name][0])
    orientation = int(name.rpartition(' ')[2]) if 'EXIF' in name else 1
    for found in (inspect(path), inspect(path, decode=False)):
        assert found.damage is None
        assert found.orientation == orientation
        assert found.turned == (orientation != 1)
        if found.mode:  # Pillow does not know colors in floats
            assert (found.height, found.width) == (40, 56)
    assert quick_fault(path) is None


def flipped(data: bytes) -> bytes:
    """Bits of eight bytes in the middle changed."""
    middle = len(data) // 2
    return data[:middle] + bytes(b ^ 0x5A for b in data[middle : middle + 8]) + data[middle + 8 :]


DAMAGED = {
    'empty': b'',
    'text': b'version https://git-lfs.github.com/spec/v1\n',
    **{f'half of {name}': ZOO[name][0][: len(ZOO[name][0]) // 2] for name in (
        'png', 'webp', 'bmp', 'tif', 'tif, packed', 'gif', 'ppm', 'jp2', 'tif, 16 bits',
        'png, 16 bits', 'tif, colors, 16 bits', 'tif, floats to 1', 'png, palette',
    )},
    **{f'half of {name}': LOSSY[name][0][: len(LOSSY[name][0]) // 2] for name in LOSSY},
    **{f'{name} with a rotten middle': flipped(ZOO[name][0]) for name in (
        'png', 'png, gray', 'png, palette', 'png, 16 bits', 'png, alpha', 'tif, packed',
    )},
    'floats beyond 255': encode(Image.fromarray(1000 * FLOATS), 'TIFF'),
    'no numbers': encode(Image.fromarray(np.full((4, 4), np.nan, np.float32)), 'TIFF'),
    'negative': encode(Image.fromarray(np.full((4, 4), -3, np.int32)), 'TIFF'),
}  # fmt: skip


@pytest.mark.parametrize('name', DAMAGED)
def test_a_damaged_file_is_named_in_one_line(name: str, tmp_path: Path) -> None:
    path = tmp_path / 'photo.tif'
    path.write_bytes(DAMAGED[name])
    with pytest.raises(CorruptImage):
        by_pretraining(path)
    for read in (by_evaluation, by_transfer):
        with pytest.raises(UserError, match=r'photo\.tif: cannot be decoded \(.+\)') as caught:
            read(path)
        assert '\n' not in str(caught.value)
    assert inspect(path).damage
    assert quick_fault(path), 'found before a run'


def test_damage_in_the_middle_of_a_jpeg(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """libjpeg only warns of it, and fills the rest with something."""
    image = Image.fromarray(photograph(200, 300, seed=1))
    found = []
    for kind, picture in (
        ('RGB', image),
        ('L', image.convert('L')),
        ('CMYK', image.convert('CMYK')),
    ):
        data = bytearray(encode(picture, 'JPEG', quality=90))
        middle = len(data) // 2
        data[middle : middle + 60] = np.random.default_rng(0).bytes(60)
        path = tmp_path / f'{kind}.jpg'
        path.write_bytes(bytes(data))
        found.append(str(inspect(path).damage))
        with pytest.raises(UserError, match='data are damaged: Corrupt JPEG data'):
            by_transfer(path)
    assert all('Corrupt JPEG data' in text for text in found), found
    assert capfd.readouterr().err == ''


def test_the_damaged_one_is_told_among_many_threads(tmp_path: Path) -> None:
    good = encode(Image.fromarray(photograph(200, 300, seed=1)), 'JPEG', quality=90)
    bad = bytearray(good)
    bad[len(bad) // 2 : len(bad) // 2 + 60] = np.random.default_rng(0).bytes(60)
    files = [bytes(bad) if number % 7 == 3 else good for number in range(60)]

    def damaged(data: bytes) -> bool:
        try:
            open_image(data).decode()
        except CorruptImage:
            return True
        return False

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(damaged, files)) == [number % 7 == 3 for number in range(60)]


def test_what_others_write_to_the_standard_error_is_passed_on(
    capfd: pytest.CaptureFixture[str],
) -> None:
    said = b'Corrupt JPEG data: bad Huffman code\nnot of a JPEG\n'
    _, damage = decode_listening(lambda: os.write(2, said))
    assert damage == 'Corrupt JPEG data: bad Huffman code'
    assert set(capfd.readouterr().err.splitlines()) == {'not of a JPEG'}


def test_a_huge_image_names_the_limit_and_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    bits = encode(Image.new('1', (14000, 13500)), 'PNG')  # 189 million pixels: Pillow refuses
    assert open_image(bits).width == 14000
    monkeypatch.setattr(image_io, 'PIXEL_LIMIT', 10**8)
    with pytest.raises(CorruptImage, match=r'14000 x 13500 .*100000000.*OPENCV_IO_MAX_IMAGE_PIX'):
        open_image(bits)


def test_sizes_of_the_turned_image_are_explained(tmp_path: Path) -> None:
    path = tmp_path / 'phone.jpg'
    path.write_bytes(LOSSY['jpeg, EXIF 6'][0])
    load = loading.LoadReadableImage()
    assert load(dict(img_path=str(path), height=40, width=56)) is not None
    with pytest.raises(UserError, match=r'EXIF orientation is 6, a quarter turn.*docs/images\.md'):
        load(dict(img_path=str(path), height=56, width=40))
    path.write_bytes(LOSSY['jpeg, EXIF 3'][0])
    with pytest.raises(UserError, match=r'of \(56, 40\)\. Give the image that was annotated'):
        load(dict(img_path=str(path), height=56, width=40))


def test_constant_images_are_told(tmp_path: Path) -> None:
    Image.new('RGB', (9, 7), (3, 4, 5)).save(tmp_path / 'a.png')
    assert inspect(tmp_path / 'a.png').constant
    assert [*inspect(tmp_path / 'a.png').oddities()] == ['images of a single color']
    PLAIN.save(tmp_path / 'b.png')
    assert not inspect(tmp_path / 'b.png').constant


def test_pretraining_learns_from_every_kind(tmp_path: Path) -> None:
    for number, (encoded, _) in enumerate([*ZOO.values(), *LOSSY.values()]):
        (tmp_path / f'{number:02d}').write_bytes(encoded)
    views = dict(type='AugmentedViews', size=16, views=[{}, {}])
    dataset = UnlabeledImages(tmp_path, views)
    assert len(dataset) == len(ZOO) + len(LOSSY)
    assert [dataset[index]['corrupt_index'] for index in range(len(dataset))] == [-1] * len(dataset)
