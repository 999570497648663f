"""Bars below a sheet of pictures: a value of each class, for several runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
