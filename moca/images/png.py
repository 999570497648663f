"""The checksums of PNG files, which neither OpenCV nor Pillow hold all of a file against."""

from __future__ import annotations

import zlib

PNG_SIGNATURE = b'\x89PNG\r\n\x1a\n'
PNG_END = b'IEND\xaeB`\x82'  # an empty chunk's name and checksum


def png_fault(data: bytes) -> str | None:
    """Which part of a PNG is damaged, by its checksums; None if all are right, or it is no PNG.

    Source: PNG specification (third edition), section 5.3: length, type, data, CRC-32 of the last
    two, up to the part ``IEND``.
    """
    if not data.startswith(PNG_SIGNATURE):
        return None
    view, position = memoryview(data), len(PNG_SIGNATURE)
    while position + 12 <= len(data):
        length = int.from_bytes(view[position : position + 4], 'big')
        end = position + 8 + length
        kind = bytes(view[position + 4 : position + 8])
        if end + 4 > len(data):
            break
        checksum = int.from_bytes(view[end : end + 4], 'big')
        if zlib.crc32(view[position + 4 : end]) != checksum:
            name = kind.decode('ascii', 'replace')
            return f'the PNG is damaged: its part {name} at byte {position} has a wrong checksum'
        if kind == b'IEND':
            return None
        position = end + 4
    return 'the PNG is cut short: it has no end marker'
