"""Sheets of pictures: predictions over inputs beside the truth, and anything else in rows."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray

from moca.engine.checkpoints import write_atomically

matplotlib.use('Agg')

from matplotlib import patches
from matplotlib import pyplot as plt

Image = NDArray[np.uint8]

UNLABELLED = (0, 0, 0)
DPI = 110


def colour_labels(
    labels: NDArray[Any], palette: Sequence[Sequence[int]], ignore: int = 255
) -> Image:
    """Colour a label map `[H, W]` by a palette; ignored pixels are black."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = palette
    table[ignore] = UNLABELLED
    return table[labels.astype(np.uint8)]


def blend(image: Image, colours: Image, share: float = 0.62) -> Image:
    """Lay colours over a picture, which is greyed so that only labels are coloured."""
    grey = image.mean(axis=-1, keepdims=True).repeat(3, axis=-1)
    return ((1 - share) * grey + share * colours).astype(np.uint8)


def save_figure(figure: Any, path: Path) -> None:
    """Save a figure so that the file appears whole or not at all; the suffix names the format."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix[1:], dpi=DPI, facecolor='white')
    plt.close(figure)
    write_atomically(path, buffer.getvalue())


def sheet(
    rows: Sequence[Sequence[Any]],
    titles: Sequence[str],
    heading: str,
    legend: int = 0,
    indent: bool = False,
) -> Any:
    """A figure with a row per picture and a titled column per way of looking at it.

    Args:
        rows: Pictures `[H, W, 3]`; they are shown at the size of the first.
        titles: One a column.
        heading: Above all.
        legend: Lines to be kept free below for a legend.
        indent: Keep room on the left for :func:`row_title`.
    """
    height, width = np.shape(rows[0][0])[:2]
    wide = 2.9 if width > 1.5 * height else 1.6
    left = 0.42 if indent else 0.03  # inches, as all of these
    above = 0.52 if any(titles) else 0.32
    below = 0.24 * legend + 0.03
    inches = (
        wide * len(rows[0]) + left + 0.03,
        wide * height / width * len(rows) + above + below,
    )
    figure, axes = plt.subplots(len(rows), len(rows[0]), figsize=inches, squeeze=False)
    figure.subplots_adjust(
        *(left / inches[0], below / inches[1], 1 - 0.03 / inches[0], 1 - above / inches[1]),
        wspace=0.02,
        hspace=0.03,
    )
    for line, row in zip(axes, rows, strict=True):
        for axis, image in zip(line, row, strict=True):
            axis.imshow(image, interpolation='nearest')
            axis.set_axis_off()
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=9, pad=3)
    figure.suptitle(heading, fontsize=10, fontweight='bold', y=1 - 0.08 / inches[1], va='top')
    return figure


def row_title(axis: Any, title: str) -> None:
    """Write a title, turned, left of a row's first picture."""
    axis.text(
        -0.03,
        0.5,
        title,
        transform=axis.transAxes,
        rotation=90,
        ha='right',
        va='center',
        fontsize=8,
    )


def class_legend(
    figure: Any, names: Sequence[str], colours: Sequence[Sequence[int]], per_line: int = 6
) -> None:
    """A legend of coloured boxes along the bottom of a sheet."""
    handles = [
        patches.Patch(color=np.asarray(colour) / 255, label=name)
        for name, colour in zip(names, colours, strict=True)
    ]
    figure.legend(
        handles=handles,
        loc='lower center',
        ncols=min(per_line, len(handles)),
        fontsize=8,
        frameon=False,
        handlelength=1.2,
        borderaxespad=0.1,
        columnspacing=1.2,
    )


def draw_instances(axis: Any, instances: Any, names: Sequence[str], colours: Sequence[Any]) -> None:
    """Draw masks, boxes and names of objects on an axis that shows their picture.

    Args:
        axis: Of matplotlib.
        instances: With `labels` `[N]`, `boxes` `[N, 4]` (x1, y1, x2, y2), `masks` bool
            `[N, H, W]` and, for predictions, `scores` `[N]`.
        names: Of the classes.
        colours: RGB in 0..255, one a class.
    """
    for number, label in enumerate(instances['labels']):
        colour = np.asarray(colours[label]) / 255
        mask = instances['masks'][number]
        axis.imshow(np.dstack([np.broadcast_to(colour, (*mask.shape, 3)), 0.45 * mask]))
        x1, y1, x2, y2 = instances['boxes'][number]
        axis.add_patch(
            patches.Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, ec=colour, lw=1.3)
        )
        score = f' {100 * instances["scores"][number]:.0f} %' if 'scores' in instances else ''
        axis.text(
            *(x1 + 0.5, y1 - 1.5, f'{names[label]}{score}'),
            fontsize=5.5,
            color='white',
            va='bottom',
            clip_on=True,
            bbox=dict(facecolor=colour, edgecolor='none', pad=0.6, alpha=0.85),
        )
