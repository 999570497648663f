"""Pictures of runs as they stand in a page: compressed, within it, and no more than fit."""

from __future__ import annotations

import base64
import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

_QUALITY = 82
"""Of WebP: the sheets are drawings with letters, which show no loss from there on."""


@dataclass(frozen=True)
class Picture:
    """A picture, or why there is none.

    Attributes:
        title: What it shows.
        source: The picture itself as a ``data:`` address; empty if there is none.
        width, height: In pixels.
        reason: Why there is none.
    """

    title: str
    source: str = ''
    width: int = 0
    height: int = 0
    reason: str = ''


@dataclass
class Gallery:
    """Draws pictures until they fill what a page may hold.

    Attributes:
        limit: Bytes of all pictures together, as they stand in the page.
        used: Bytes so far.
        missing: Titles and reasons of those that are not there.
    """

    limit: int
    used: int = 0
    missing: list[tuple[str, str]] = field(default_factory=list)

    def draw(self, title: str, draw: Callable[[Path], None]) -> Picture:
        """Return a picture, or the reason why there is none: a page is made of many runs.

        Args:
            title: What it shows.
            draw: Writes a PNG to a path.
        """
        if self.used >= self.limit:
            return self._without(title, 'the page is full; see --limit-mb')
        try:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / 'sheet.png'
                draw(path)
                with Image.open(path) as sheet:
                    width, height = sheet.size
                    data = as_webp(sheet)
        except Exception as error:  # data that are not there any more, weights of another version
            told = str(error).strip() or type(error).__name__
            return self._without(title, told.splitlines()[0])
        source = f'data:image/webp;base64,{base64.b64encode(data).decode()}'
        if self.used + len(source) > self.limit:
            return self._without(
                title, f'its {len(source) / 1e6:.1f} MB do not fit into the page; see --limit-mb'
            )
        self.used += len(source)
        return Picture(title, source, width, height)

    def _without(self, title: str, reason: str) -> Picture:
        self.missing.append((title, reason))
        return Picture(title, reason=reason)


def as_webp(image: Image.Image) -> bytes:
    """Compress an image; what it does not cover is white."""
    if image.mode in ('RGBA', 'LA', 'P'):
        whole = image.convert('RGBA')
        image = Image.alpha_composite(Image.new('RGBA', image.size, 'white'), whole)
    buffer = io.BytesIO()
    image.convert('RGB').save(buffer, 'WEBP', quality=_QUALITY)
    return buffer.getvalue()
