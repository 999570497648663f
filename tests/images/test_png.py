"""PNGs whose checksums are wrong, which OpenCV and Pillow decode to some image all the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from moca.errors import UserError
from moca.images.image_io import read_pixels
from moca.images.png import png_fault
from tests import odd_files


@pytest.mark.parametrize('mode', ['RGB', 'L', 'RGBA', 'P', 'I;16', '1'])
def test_wrong_checksum_is_refused_as_it_is_decoded(mode: str, tmp_path: Path) -> None:
    path = tmp_path / 'image.png'
    data = bytearray(odd_files.encode(odd_files.pixels(mode), 'PNG') or b'')
    assert png_fault(bytes(data)) is None
    end = data.rfind(b'IEND') - 4  # behind the checksum of the last part with pixels
    data[end - 1] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r'image\.png: cannot be decoded .*IDAT .* wrong checksum'):
        read_pixels(path)
