"""Curves of pre-training runs, several of them over each other."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from moca.errors import UserError
from moca.figures import plt, save_figure
from moca.records.run_logs import Curve, read_curves

# Title, names in the log (a regular expression), whether the axis is logarithmic.
PANELS = (
    ('losses', r'(kl|loss|alignment)_\w+|contrastive|reconstruction\w*|denoising', False),
    ('words of the codebook', r'words_in_use|words_per_image', False),
    ('assignment entropy', r'assignment_entropy', False),
    ('k-NN top-1, %', r'knn/.*', False),
    ('segmentation without training, %', r'(in_context|patch_knn)/mIoU_present', False),
    ('normalizer', r'normali[sz]er', False),
    ('gradient norm', r'grad_norm', True),
    ('learning rate', r'lr', False),
    ('teacher momentum', r'momentum', False),
    ('weight decay', r'weight_decay', False),
)
_STYLES: tuple[Any, ...] = (
    *('-', '--', ':', '-.'),
    *((0, (6, 1)), (0, (4, 1, 1, 1, 1, 1)), (0, (1, 4)), (0, (8, 3, 2, 3))),
)
# Names that share a panel, in the order of `_STYLES`: a curve looks the same in every sheet,
# whatever else was logged, and when. Others take the styles that are left, by their names.
_FIXED = (
    (
        *('kl_image', 'kl_dense', 'contrastive', 'reconstruction', 'denoising'),
        *('reconstruction_strong', 'reconstruction_weak'),
    ),
    ('words_in_use', 'words_per_image'),
    ('knn/top1_k10', 'knn/top1_k20'),
)


def curves_sheet(folders: Sequence[Path], out: Path) -> None:
    """Draw what runs have logged: a panel each for `PANELS`, a color for each run.

    The axis counts epochs where all runs have logged a k-NN accuracy, which says how many steps an
    epoch has, and steps otherwise. Panels that no run has values for are left out.

    Args:
        folders: Work dirs.
        out: Image to write.

    Raises:
        UserError: A folder holds no log, or nothing that there is a panel for.
    """
    runs = [read_curves(folder) for folder in folders]
    panels = [(title, _names(runs, pattern), log) for title, pattern, log in PANELS]
    if not panels[0][1]:  # a method whose loss has no parts
        panels[0] = ('loss', _names(runs, 'loss'), False)
    panels = [panel for panel in panels if panel[1]]
    if not panels:
        raise UserError(f'{", ".join(map(str, folders))}: the logs hold no curve to draw.')
    scales = [_epochs_per_step(run) for run in runs]
    unit = 'step' if None in scales else 'epoch'

    columns = len(panels) if len(panels) < 4 else 3 if len(panels) < 7 else 4
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(2.7 * columns, 2.1 * rows + 0.35), squeeze=False
    )
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    for axis, (title, names, log) in zip(axes.flat, panels, strict=False):
        for number, run in enumerate(runs):
            scale = 1.0 if unit == 'step' else scales[number]
            _draw(axis, run, names, f'C{number}', lambda steps, s=scale: steps * s)
        _dress(axis, title, names, log)
    for axis in axes.flat[len(panels) - columns : len(panels)]:  # the lowest of each column
        axis.set_xlabel(unit, fontsize=8, labelpad=1)
    handles = [plt.Line2D([], [], color=f'C{number}') for number in range(len(runs))]
    figure.legend(
        *(handles, _labels(folders)),
        loc='lower center',
        ncols=len(runs),
        fontsize=8,
        frameon=False,
        borderaxespad=0.1,
    )
    figure.tight_layout(rect=(0, 0.25 / figure.get_figheight(), 1, 1), pad=0.5)
    save_figure(figure, out)


def _names(runs: Sequence[dict[str, Curve]], pattern: str) -> list[str]:
    """Names of curves that match, as `_FIXED` has them; others by name, numbers by size."""
    order = [name for group in _FIXED for name in group]

    def place(name: str) -> tuple[int, str, int]:
        stem = name.rstrip('0123456789')
        known = order.index(name) if name in order and stem == name else len(order)
        return known, stem, int(name[len(stem) :] or 0)

    found = {name for run in runs for name in run if re.fullmatch(pattern, name)}
    return sorted(found, key=place)


def _styles(names: Sequence[str]) -> dict[str, Any]:
    """The style of each curve of a panel; see `_FIXED`."""
    fixed = {name: style for group in _FIXED for name, style in zip(group, _STYLES, strict=False)}
    styles = {name: fixed[name] for name in names if name in fixed}
    free = cycle([style for style in _STYLES if style not in styles.values()])
    return {name: styles.get(name) or next(free) for name in names}


def _epochs_per_step(run: dict[str, Curve]) -> float | None:
    steps, epochs = run.get('epoch', (np.zeros(1), np.zeros(1)))
    return None if steps[-1] == 0 else float(epochs[-1] / steps[-1])


def _draw(
    axis: Any, run: dict[str, Curve], names: Sequence[str], color: str, place: Callable[..., Any]
) -> None:
    for name, style in _styles(names).items():
        if name in run:
            steps, values = run[name]
            marker = '.' if len(steps) < 30 else None
            axis.plot(place(steps), values, ls=style, color=color, lw=1.2, marker=marker, ms=4)


def _dress(axis: Any, title: str, names: Sequence[str], log: bool) -> None:
    axis.set_title(title, fontsize=9, pad=3)
    axis.tick_params(labelsize=7, pad=2)
    axis.grid(alpha=0.3, lw=0.5)
    axis.margins(x=0.02)
    axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    for side in ('top', 'right'):
        axis.spines[side].set_visible(False)
    if log:
        axis.set_yscale('log')
    else:
        axis.ticklabel_format(axis='y', scilimits=(-3, 4), useOffset=False)
        axis.yaxis.get_offset_text().set_fontsize(7)
    if len(names) > 1:
        handles = [
            plt.Line2D([], [], color='0.3', lw=1.2, ls=style) for style in _styles(names).values()
        ]
        labels = [name.split('/')[-1] for name in names]
        many = len(names) > 5  # they lie over the curves
        axis.legend(
            *(handles, labels),
            fontsize=5 if many else 7,
            ncols=2 if many else 1,
            frameon=many,
            framealpha=0.7,
            handlelength=1.8,
        )


def _labels(folders: Sequence[Path]) -> list[str]:
    """Names of the folders, with those above them where they are equal."""
    names = [folder.resolve().parts for folder in folders]
    for depth in range(1, max(map(len, names)) + 1):
        labels = ['/'.join(parts[-depth:]) for parts in names]
        if len(set(labels)) == len(labels):
            return labels
    return labels
