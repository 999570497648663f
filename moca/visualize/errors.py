"""A sheet of what detectors' missing AP is made of, by size and by class."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.evaluation import CocoMetric
from mmengine.fileio import load
from numpy.typing import NDArray

from moca.errors import UserError
from moca.figures import plt, save_figure
from moca.transfer.finished import FinishedRun, load_finished
from moca.visualize.error_breakdown import AREAS, STEPS, Breakdown, break_down
from moca.visualize.predictions import fill, own_metric

MOST_CLASSES = 24
"""Classes drawn; of more than these, the best half and the worst."""

_COLORS = ('#1a7f37', '#8fd19e', '#4c78a8', '#9d76c0', '#d67ab1', '#f58518', '#dddddd')
_KINDS = {'bbox': 'box', 'segm': 'mask'}


def error_sheet(folders: Sequence[Path], out: Path) -> None:
    """Draw the breakdown of runs below each other.

    Args:
        folders: Work dirs of detection runs.
        out: Image to write.

    Raises:
        UserError: A run cannot be read, or its predictions not be counted.
    """
    runs = [load_finished(path, 'detection') for path in folders]
    draw_breakdowns([(finished.label, breakdowns(finished)) for finished in runs], out)


def breakdowns(finished: FinishedRun) -> dict[str, Breakdown]:
    """The breakdown of a run on its validation set, by ``bbox`` and ``segm``.

    Raises:
        UserError: The run was not validated by mmdet's `CocoMetric` on an annotation file.
    """
    metric = own_metric(finished, CocoMetric)
    if metric._coco_api is None:
        raise UserError(f'{finished.run.folder}: val_evaluator has no ann_file. Name it there.')
    fill(metric, finished)
    metric.cat_ids = metric._coco_api.get_cat_ids(cat_names=finished.classes)
    predictions = [prediction for _, prediction in metric.results]
    with tempfile.TemporaryDirectory() as folder:
        files = metric.results2json(predictions, f'{folder}/results')
        found = {kind: load(files[kind]) for kind in _KINDS if kind in files}
    for detection in found.get('segm', []):
        del detection['bbox']  # else the box's area would be taken for the mask's
    truth, classes = metric._coco_api, metric.cat_ids
    return {kind: break_down(truth, some, kind, classes) for kind, some in found.items()}


def draw_breakdowns(runs: Sequence[tuple[str, dict[str, Breakdown]]], out: Path) -> None:
    """Draw a row for each run: its AP by size for boxes and masks, and its classes by box AP.

    Args:
        runs: Names, and what :func:`breakdowns` returned.
        out: Image to write.
    """
    classes = max(len(_shown(found['bbox'])) for _, found in runs)
    high = max(2.6, 0.17 * classes + 0.8)
    heights = (0.3, high * len(runs), 0.3)  # heading, runs, legend
    figure = plt.figure(figsize=(12.5, sum(heights)), layout='constrained')
    above, body, below = figure.subfigures(3, height_ratios=heights)
    heading = 'Average precision, and what it would be with errors forgiven one after another'
    above.text(0.5, 0.5, heading, ha='center', va='center', fontsize=10, fontweight='bold')
    parts = body.subfigures(len(runs), squeeze=False)[:, 0]
    for part, (name, found) in zip(parts, runs, strict=True):
        axes = part.subplots(1, 3, width_ratios=(1, 1, 2.2))
        part.suptitle(_summary(name, found), fontsize=9)
        for axis, kind in zip(axes, _KINDS, strict=False):
            if kind in found:
                _draw_sizes(axis, found[kind], _KINDS[kind])
            else:
                axis.set_axis_off()
        _draw_classes(axes[-1], found)
    handles = [plt.Rectangle((0, 0), 1, 1, color=color) for color in _COLORS]
    labels = [f'{name}: {text}' for name, text in STEPS.items()]
    look = dict(fontsize=8, frameon=False, handlelength=1.2, columnspacing=1.2)
    below.legend(handles, labels, loc='center', ncols=len(labels), **look)
    save_figure(figure, out)


def _summary(name: str, found: dict[str, Breakdown]) -> str:
    """AP of all sizes and of each in a line."""
    parts = []
    for kind, breakdown in found.items():
        whole, *sizes = (_number(value) for value in breakdown.mean(breakdown.ap))
        small, medium, large = sizes
        parts.append(f'{_KINDS[kind]} AP {whole} (small {small}, medium {medium}, large {large})')
    return f'{name}: {"; ".join(parts)}'


def _number(value: float) -> str:
    return '-' if np.isnan(value) else f'{value:.1f}'


def _draw_sizes(axis: Any, breakdown: Breakdown, title: str) -> None:
    steps = breakdown.mean(breakdown.steps)
    places = np.arange(len(AREAS))
    _stack(steps, lambda low, part, color: axis.bar(places, part, 0.7, low, color=color))
    for place, row in zip(places, steps, strict=True):
        for number, (low, high) in enumerate(zip(np.r_[0.0, row[:-1]], row, strict=True)):
            if high - low >= 4:  # the figure fits in
                look = dict(ha='center', va='center', fontsize=6.5)
                color = 'white' if number == 0 else 'black'
                axis.text(place, (low + high) / 2, f'{high - low:.0f}', color=color, **look)
    axis.set_xticks(places, AREAS, fontsize=8)
    axis.set_ylim(0, 100)
    axis.set_title(f'{title}, by size', fontsize=9)
    _dress(axis)


def _draw_classes(axis: Any, found: dict[str, Breakdown]) -> None:
    breakdown = found['bbox']
    classes = _shown(breakdown)
    places = np.arange(len(classes))[::-1]
    steps = breakdown.steps[classes, 0]
    _stack(steps, lambda low, part, color: axis.barh(places, part, 0.75, low, color=color))
    for kind, marker in (('bbox', 'o'), ('segm', 'D')):
        if kind in found:
            ap = found[kind].ap[classes, 0]
            label = f'{_KINDS[kind]} AP'
            axis.plot(
                *(ap, places, marker),
                **dict(ms=4, mfc='white', mec='black', mew=0.8),
                clip_on=False,
                label=label,
            )
    known = np.count_nonzero(~np.isnan(breakdown.ap[:, 0]))
    title = 'box, by class'
    if known > len(classes):
        title = f'box, best and worst {MOST_CLASSES // 2} of {known} classes'
        axis.axhline(places[MOST_CLASSES // 2 - 1] - 0.5, color='black', lw=0.8)
    axis.set_yticks(places, [breakdown.classes[i] for i in classes], fontsize=7)
    axis.set_xlim(0, 100)
    axis.set_ylim(-0.6, len(classes) - 0.4)
    axis.set_title(title, fontsize=9, loc='left')
    axis.legend(
        **dict(fontsize=7, frameon=False, ncols=2, borderaxespad=0.1),
        loc='lower right',
        bbox_to_anchor=(1, 1),
    )
    _dress(axis)


def _shown(breakdown: Breakdown) -> NDArray[np.int64]:
    """Classes that have objects, best box AP first; of too many, both ends."""
    known = np.flatnonzero(~np.isnan(breakdown.ap[:, 0]))
    known = known[np.argsort(-breakdown.ap[known, 0], kind='stable')]
    half = MOST_CLASSES // 2
    return known if len(known) <= MOST_CLASSES else np.r_[known[:half], known[-half:]]


def _stack(steps: NDArray[np.float64], draw: Any) -> None:
    """Draw the difference that each step makes on top of those before, ``[bars, steps]``."""
    low: NDArray[np.float64] = np.zeros(len(steps))
    for number, color in enumerate(_COLORS):
        high = np.nan_to_num(steps[:, number])
        draw(low, high - low, color)
        low = high


def _dress(axis: Any) -> None:
    axis.tick_params(labelsize=7, length=2)
    for side in ('top', 'right'):
        axis.spines[side].set_visible(False)
