"""Sheets of images: predictions over inputs beside the truth, and anything else in rows."""

from __future__ import annotations

import base64
import colorsys
import functools
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
from numpy.typing import NDArray

from moca.images.shown_names import shortened
from moca.records.whole_files import write_atomically

matplotlib.use('Agg')

from matplotlib import patches
from matplotlib import pyplot as plt

Image = NDArray[np.uint8]

UNLABELED = (0, 0, 0)
DPI = 110
_GOLDEN = 0.618034  # turns between two hues, so that neighbors differ
_SPREAD = 200  # colors that `distinct_colors` tells apart
_FIRST = (60, 15, 255)  # a blue: the next is a green, and few eyes take one for the other


def distinct_colors(count: int) -> list[tuple[float, ...]]:
    """RGB in 0..255, each as far as can be from those before it; fewer are the first of more.

    The method is that of Glasbey et al. (Color Research and Application 32(4), 2007): distances are
    in CIELAB, among colors that are neither dark nor pale nor gray, bounds of ours.
    """
    return _spread_colors()[:count] if count <= _SPREAD else _turned_colors(count)


@functools.cache
def _spread_colors() -> list[tuple[float, ...]]:
    levels = np.linspace(0, 255, 18, dtype=np.float32)
    colors = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 3)
    lab = cv2.cvtColor(colors[None] / 255, cv2.COLOR_RGB2LAB)[0]
    chroma = np.hypot(lab[:, 1], lab[:, 2])
    kept = (lab[:, 0] > 35) & (lab[:, 0] < 92) & (chroma > 35)
    colors, lab = colors[kept], lab[kept]
    chosen = [int(np.abs(colors - _FIRST).sum(axis=1).argmin())]
    far = np.full(len(lab), np.inf, np.float32)
    while len(chosen) < _SPREAD:
        far = np.minimum(far, np.linalg.norm(lab - lab[chosen[-1]], axis=1))
        chosen.append(int(far.argmax()))
    return [tuple(color) for color in colors[chosen].tolist()]


def _turned_colors(count: int) -> list[tuple[float, ...]]:
    """Hues that differ between neighbors, for numbers of which nobody tells all apart."""
    return [
        tuple(255 * value for value in colorsys.hsv_to_rgb(number * _GOLDEN % 1, 0.85, 0.9))
        for number in range(count)
    ]


def color_labels(
    labels: NDArray[Any], palette: Sequence[Sequence[float]], ignore: int = 255
) -> Image:
    """Color a label map `[H, W]` by a palette; ignored pixels are black."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = palette
    table[ignore] = UNLABELED
    return table[labels.astype(np.uint8)]


def blend(image: Image, colors: Image, share: float = 0.62) -> Image:
    """Lay colors over an image, which is grayed so that only labels are colored."""
    gray = image.mean(axis=-1, keepdims=True).repeat(3, axis=-1)
    return ((1 - share) * gray + share * colors).astype(np.uint8)


_NAME_LINE = 0.14  # inches of a line of file names
_NAME_SIZE = 6.5  # of their letters, in points

FORMATS = ('.png', '.pdf', '.svg', '.html')
"""Suffixes of what `save_figure` writes."""


def save_figure(figure: Any, path: Path, moving: bytes | None = None) -> None:
    """Save a figure so that the file appears whole or not at all; the suffix names the format.

    An ``.html`` page has the image within itself.

    Args:
        figure: Of matplotlib.
        path: What to write.
        moving: A GIF that an ``.html`` page shows below the figure.
    """
    page = path.suffix == '.html'
    buffer = io.BytesIO()
    kind = 'png' if page else path.suffix[1:]
    figure.savefig(buffer, format=kind, dpi=DPI, facecolor='white')
    content = buffer.getvalue()
    if page:
        images = [('png', content), *([] if moving is None else [('gif', moving)])]
        content = (
            '<!DOCTYPE html><meta charset="utf-8">'
            f'<title>{html.escape(figure.get_suptitle())}</title>'
            + ''.join(
                f'<img style="max-width:100%" src="data:image/{kind};base64,'
                f'{base64.b64encode(data).decode()}">\n'
                for kind, data in images
            )
        ).encode()
    plt.close(figure)
    write_atomically(path, content)


def sheet(
    rows: Sequence[Sequence[Any]],
    titles: Sequence[str],
    heading: str,
    below: float = 0.0,
    indent: bool = False,
    names: Sequence[Sequence[str]] = (),
) -> Any:
    """A figure with a row per image and a titled column per way of looking at it.

    Args:
        rows: Images `[H, W]` or `[H, W, 3]`, None for an empty place. Columns are equally wide
            and rows as high as their images; but where each column has images of one shape,
            rows are equally high and columns as wide as their images.
        titles: One a column.
        heading: Above all.
        below: Inches to be kept free below, for a legend or a chart.
        indent: Keep room on the left for :func:`row_title`.
        names: Of the files, written below the images: for each row those of its first images, or
            of all; '' for none. Long ones lose their middle.
    """
    widths, heights = _cells(rows)
    line = _NAME_LINE if any(map(any, names)) else 0.0
    left = 0.42 if indent else 0.03
    above = 0.52 if any(titles) else 0.32
    below += 0.03 + line
    high = sum(heights) + line * (len(rows) - 1)
    inches = (sum(widths) + left + 0.03, high + above + below)
    figure, axes = plt.subplots(
        len(rows),
        len(widths),
        figsize=inches,
        squeeze=False,
        gridspec_kw=dict(height_ratios=heights, width_ratios=widths),
    )
    figure.subplots_adjust(
        *(left / inches[0], below / inches[1], 1 - 0.03 / inches[0], 1 - above / inches[1]),
        wspace=0.02,
        hspace=0.03 + line * len(rows) / sum(heights),
    )
    for places, row in zip(axes, rows, strict=True):
        for axis, image in zip(places, row, strict=True):
            if image is not None:
                axis.imshow(image, interpolation='nearest')
            axis.set_axis_off()
    for places, texts in zip(axes, names, strict=False):
        for axis, text, wide in zip(places, texts, widths, strict=False):
            if text:
                _write_name(axis, text, wide)
    for axis, title, wide in zip(axes[0], titles, widths, strict=True):
        fitting = 72 * wide / (0.6 * max(len(title), 1))  # a letter is .6 of its size wide
        axis.set_title(title, fontsize=min(9, fitting), pad=3)
    figure.suptitle(heading, fontsize=10, fontweight='bold', y=1 - 0.08 / inches[1], va='top')
    return figure


def _write_name(axis: Any, name: str, wide: float) -> None:
    """Write a file's name below its image, which is so many inches wide."""
    most = int(72 * wide / (0.6 * _NAME_SIZE))  # a letter is .6 of its size wide
    axis.annotate(
        shortened(name, most).replace('$', r'\$'),  # else matplotlib's formulas
        (0.5, 0),
        xycoords='axes fraction',
        xytext=(0, -1.5),
        textcoords='offset points',
        ha='center',
        va='top',
        fontsize=_NAME_SIZE,
        color='0.25',
    )


def _cells(rows: Sequence[Sequence[Any]]) -> tuple[list[float], list[float]]:
    """Widths of the columns and heights of the rows of a sheet, in inches."""
    shapes = [[None if image is None else np.shape(image)[:2] for image in row] for row in rows]
    wide = min(max(11 / len(rows[0]), 1.6), 2.9)
    columns = [[w / h for h, w in filter(None, column)] for column in zip(*shapes, strict=True)]
    if all(max(column) < 1.02 * min(column) for column in columns):
        aspects = [column[0] for column in columns]
        high = wide * len(aspects) / sum(aspects)
        return [high * aspect for aspect in aspects], [high] * len(rows)
    return [wide] * len(columns), [
        wide * max(h / w for h, w in filter(None, row)) for row in shapes
    ]


def row_title(axis: Any, title: str) -> None:
    """Write a title, turned, left of a row's first image."""
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


LEGEND_LINE = 0.24
"""Inches of a line of `class_legend`."""


def legend_inches(names: Sequence[str], per_line: int = 6) -> float:
    """Height of :func:`class_legend`."""
    return LEGEND_LINE * -(-len(names) // per_line)


def class_legend(
    figure: Any,
    names: Sequence[str],
    colors: Sequence[Sequence[float]],
    per_line: int = 6,
    above: float = 0.0,
) -> None:
    """A legend of colored boxes along the bottom of a sheet, so many inches above its edge."""
    handles = [
        patches.Patch(color=np.asarray(color) / 255, label=name)
        for name, color in zip(names, colors, strict=True)
    ]
    figure.legend(
        handles=handles,
        loc='lower center',
        bbox_to_anchor=(0.5, above / figure.get_figheight()),
        ncols=min(per_line, len(handles)),
        fontsize=8,
        frameon=False,
        handlelength=1.2,
        borderaxespad=0.1,
        columnspacing=1.2,
    )


def draw_instances(axis: Any, instances: Any, names: Sequence[str], colors: Sequence[Any]) -> None:
    """Draw masks, boxes and names of objects on an axis that shows their image.

    Args:
        axis: Of matplotlib.
        instances: With `labels` `[N]`, `boxes` `[N, 4]` (x1, y1, x2, y2), `masks`, N of
            bool `[H, W]` or None, and, for predictions, `scores` `[N]`.
        names: Of the classes.
        colors: RGB in 0..255, one a class.
    """
    if not len(instances['labels']) and 'scores' in instances:
        axis.text(*(0.5, 0.04, 'nothing'), fontsize=6, ha='center', transform=axis.transAxes)
    for number, label in enumerate(instances['labels']):
        color = np.asarray(colors[label]) / 255
        mask = instances['masks'][number]
        if mask is not None:
            axis.imshow(np.dstack([np.broadcast_to(color, (*mask.shape, 3)), 0.45 * mask]))
        x1, y1, x2, y2 = instances['boxes'][number]
        axis.add_patch(
            patches.Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, ec=color, lw=1.3)
        )
        score = f' {100 * instances["scores"][number]:.0f} %' if 'scores' in instances else ''
        axis.text(
            *(x1 + 0.5, y1 - 1.5, f'{names[label]}{score}'),
            fontsize=5.5,
            color='white',
            va='bottom',
            clip_on=True,
            bbox=dict(facecolor=color, edgecolor='none', pad=0.6, alpha=0.85),
        )


PER_LINE = 40
"""Classes beside each other."""

_LINE = 1.75  # inches of a line of bars with the names below
_ABOVE = 0.3  # inches for the legend


def bars_inches(values: Sequence[NDArray[np.float64]]) -> float:
    """Height of :func:`class_bars`."""
    return _ABOVE + _LINE * -(-len(_shown(values)) // PER_LINE)


def _shown(values: Sequence[NDArray[np.float64]]) -> NDArray[np.int64]:
    """Classes that have a value, the best of the first run first."""
    known = np.flatnonzero(~np.isnan(np.stack(values)).all(0))
    return known[np.argsort(-np.nan_to_num(values[0][known]), kind='stable')]


def class_bars(
    figure: Any,
    names: Sequence[str],
    values: Sequence[NDArray[np.float64]],
    labels: Sequence[str],
    unit: str,
) -> None:
    """Draw bars along the bottom of a figure, from the best class of the first run to its worst.

    Args:
        figure: Of matplotlib, with :func:`bars_inches` free below.
        names: Of the classes.
        values: `[classes]` in percent for each run; classes that are NaN in all are left out.
        labels: Of the runs; the mean over the classes shown is added.
        unit: What the values are.
    """
    classes = _shown(values)
    width, height = figure.get_size_inches()
    lines = [classes[i : i + PER_LINE] for i in range(0, len(classes), PER_LINE)]
    longest = min(len(classes), PER_LINE)
    for number, line in enumerate(lines):
        bottom = _LINE * (len(lines) - 1 - number) + 0.85
        share = len(line) / longest
        axis = figure.add_axes(
            (0.5 / width, bottom / height, (width - 0.6) / width * share, 0.8 / height)
        )
        _bars(axis, [names[i] for i in line], [run[line] for run in values], unit)
    handles = axis.containers
    texts = [
        f'{label}: mean {np.nanmean(run):.1f}' for label, run in zip(labels, values, strict=True)
    ]
    figure.legend(
        *(handles, texts),
        loc='upper center',
        bbox_to_anchor=(0.5, bars_inches(values) / height),
        ncols=len(texts),
        fontsize=8,
        frameon=False,
        borderaxespad=0.1,
    )


def _bars(axis: Any, names: list[str], values: list[NDArray[np.float64]], unit: str) -> None:
    places = np.arange(len(names))
    wide = 0.8 / len(values)
    for number, run in enumerate(values):
        shift = wide * (number - (len(values) - 1) / 2)
        bars = axis.bar(places + shift, np.nan_to_num(run), wide, color=f'C{number}')
        if len(names) * len(values) <= PER_LINE:
            axis.bar_label(bars, fmt='%.0f', fontsize=6, padding=1)
    axis.set_xticks(places, names, rotation=45, ha='right', rotation_mode='anchor', fontsize=7)
    axis.set_xlim(-0.6, len(names) - 0.4)
    axis.set_ylim(0, 109)
    axis.set_yticks(range(0, 101, 25))
    axis.set_ylabel(unit, fontsize=7, labelpad=1)
    axis.tick_params(axis='y', labelsize=6, pad=1)
    axis.tick_params(axis='x', length=0, pad=1)
    axis.grid(axis='y', alpha=0.3, lw=0.5)
    axis.set_axisbelow(True)
    for side in ('top', 'right'):
        axis.spines[side].set_visible(False)
