"""Bars and curves as numbers that a template draws, so that they follow the page's colors."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moca.records.run_logs import Curve

WIDTH, HEIGHT = 300, 110
"""Of a panel of curves, in units of its drawing."""

MOST_LINES, MOST_POINTS = 8, 400
"""Curves in a panel, which has as many colors, and points of each: what is beyond is left out."""

# What a log holds of the run itself, and not of what it learns.
_COUNTERS = re.compile(r'iter|epoch|step|base_lr|time|data_time|eta|memory|(train|val)/.*time')

_ACCURACY = re.compile(r'(.*\.)?acc(uracy)?(_\w+)?')
_LOSS_PARTS = re.compile(
    r'.+\.?loss\w*|(.*\.)?loss_\w+|(kl|alignment)_\w+|contrastive|reconstruction\w*|denoising'
)


@dataclass(frozen=True)
class Bar:
    """A value and its deviation, as shares of the longest bar; `low` and `high` are None without.

    `kind` says whose it is: ``ours``, ``random`` (initialization) or ``published``.
    """

    name: str
    about: str
    text: str
    share: float
    low: float | None = None
    high: float | None = None
    kind: str = 'ours'


def bars(
    values: Iterable[tuple[str, str, str, float, float | None, str]], longest: float | None = None
) -> list[Bar]:
    """Scale bars to the largest value with its deviation, from zero on.

    Args:
        values: Name, what stands beneath it, text, value, deviation and kind of each.
        longest: The value of a full bar; None for the largest.
    """
    rows = list(values)
    largest = max((value + (deviation or 0.0) for *_, value, deviation, _ in rows), default=0.0)
    scale = longest or largest or 1.0

    def share(value: float) -> float:
        return min(1.0, max(0.0, value / scale))

    return [
        Bar(
            *(name, about, text, share(value)),
            None if deviation is None else share(value - deviation),
            None if deviation is None else share(value + deviation),
            kind,
        )
        for name, about, text, value, deviation, kind in rows
    ]


@dataclass(frozen=True)
class Line:
    """A curve: its name, the points of a polyline, how it ended, and the number of its color."""

    name: str
    points: str
    last: str
    color: int


@dataclass(frozen=True)
class Panel:
    """Curves on one pair of axes.

    Attributes:
        title: What they are; a logarithmic axis is said.
        lines: The curves.
        low, high: Values at the lower and the upper edge, as text.
        first, last: Steps at the left and the right edge.
        left_out: Names of curves that are not drawn.
    """

    title: str
    lines: tuple[Line, ...]
    low: str
    high: str
    first: int
    last: int
    left_out: tuple[str, ...] = ()


def panels(curves: Mapping[str, Curve], metrics: Sequence[str] = ()) -> list[Panel]:
    """Panels of what a run has logged; counters and times are left out.

    Args:
        curves: As :func:`moca.records.run_logs.read_curves` returns them.
        metrics: Names of what its validations measure, without the prefix that the log has.
    """
    names = [name for name in curves if not _COUNTERS.fullmatch(name)]
    order = {name: place for place, name in enumerate(dict.fromkeys(metrics))}
    measured = [n for n in names if n.rpartition('/')[2] in order]  # the log has coco/bbox_mAP
    measured.sort(key=lambda n: order[n.rpartition('/')[2]])
    groups: dict[str, list[str]] = {'loss': [n for n in names if n == 'loss']}
    groups['validation'] = measured
    rest = [n for n in names if n not in ('loss', *measured)]
    groups['parts of the loss'] = [n for n in rest if _LOSS_PARTS.fullmatch(n)]
    groups['accuracy in training, %'] = [n for n in rest if _ACCURACY.fullmatch(n)]
    done = {name for group in groups.values() for name in group}
    for name in names:  # by what stands before a stroke: knn/top1_k10 and knn/top1_k20
        if name not in done:
            groups.setdefault(name.partition('/')[0], []).append(name)
    return [panel for title, some in groups.items() if (panel := _panel(title, some, curves))]


def _panel(title: str, names: Sequence[str], curves: Mapping[str, Curve]) -> Panel | None:
    known = [name for name in names if np.isfinite(curves[name][1]).any()]
    shown, left_out = known[:MOST_LINES], known[MOST_LINES:]
    if not shown:
        return None
    values = np.concatenate([curves[name][1] for name in shown])
    values = values[np.isfinite(values)]
    steps = np.concatenate([curves[name][0] for name in shown])
    log = title == 'grad_norm' and bool((values > 0).all())
    low, high = float(values.min()), float(values.max())
    edges = (math.log10(low), math.log10(high)) if log else (low, high)
    lines = tuple(
        Line(
            name,
            _points(*curves[name], (int(steps.min()), int(steps.max())), edges, log),
            short(float(curves[name][1][-1])),
            number,
        )
        for number, name in enumerate(shown)
    )
    return Panel(
        f'{title} (logarithmic)' if log else title,
        *(lines, short(low), short(high), int(steps.min()), int(steps.max()), tuple(left_out)),
    )


def _points(
    steps: NDArray[np.int64],
    values: NDArray[np.float64],
    across: tuple[int, int],
    up: tuple[float, float],
    log: bool,
) -> str:
    """The points of a polyline; values that are no numbers are jumped over."""
    known = np.flatnonzero(np.isfinite(values))
    if len(known) > MOST_POINTS:  # evenly, the last among them
        known = known[np.linspace(0, len(known) - 1, MOST_POINTS).round().astype(int)]
    shown = np.log10(values[known]) if log else values[known]
    x = (steps[known] - across[0]) / max(1, across[1] - across[0]) * WIDTH
    y = HEIGHT - (shown - up[0]) / ((up[1] - up[0]) or 1.0) * HEIGHT
    return ' '.join(f'{a:.1f},{b:.1f}' for a, b in zip(x, y, strict=True))


def short(value: float) -> str:
    """Return a number with four digits that tell something."""
    return f'{value:.4g}'
