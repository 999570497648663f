"""One image of everything, small enough for a README."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from moca.records.whole_files import write_atomically

WIDTH = 1000
"""Pixels: what GitHub shows of a README without scaling it down much."""

COLORS = 256


def draw_overview(sheets: Sequence[Path], out: Path) -> None:
    """Put sheets below each other at one width, in 256 colors: a third of the bytes."""
    images = [Image.open(path).convert('RGB') for path in sheets]
    scaled = [image.resize((WIDTH, round(image.height * WIDTH / image.width))) for image in images]
    whole = Image.new('RGB', (WIDTH, sum(image.height for image in scaled)), 'white')
    top = 0
    for image in scaled:
        whole.paste(image, (0, top))
        top += image.height
    buffer = io.BytesIO()
    few = whole.quantize(COLORS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    few.save(buffer, 'PNG', optimize=True)
    write_atomically(out, buffer.getvalue())
