"""The table of a race: losses and k-NN accuracies, from where each run began to where it ended."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from moca.evaluation.pieces import Curve, read_curves
from moca.evaluation.race import KNN, Racer

Span = tuple[float, float]
"""A value where a run began, and where it ended."""


@dataclass(frozen=True)
class Standing:
    """How one run went.

    Attributes:
        name: of its config.
        steps: of the optimiser.
        seconds: a step, the median of what was logged.
        loss: of the first and the last line of the log, each a mean over a few steps.
        knn: top-1 accuracy in percent by the name of the curve (``top1_k10``): of random weights
            and at the end.
    """

    name: str
    steps: int
    seconds: float
    loss: Span
    knn: dict[str, Span]


def read_standings(racers: Sequence[Racer]) -> list[Standing]:
    """Read the logs of the runs that are finished, the best k-NN accuracy first."""
    found = [_standing(racer) for racer in racers if racer.finished]
    return sorted(found, key=lambda standing: [-end for _, end in standing.knn.values()])


def _standing(racer: Racer) -> Standing:
    curves = read_curves(racer.folder)
    steps = int(curves['loss'][0][-1])
    knn = {
        name.removeprefix(KNN): _span(curve)
        for name, curve in sorted(curves.items())
        if name.startswith(KNN)
    }
    seconds = statistics.median(curves['time'][1])
    return Standing(racer.title, steps, seconds, _span(curves['loss']), knn)


def _span(curve: Curve) -> Span:
    return float(curve[1][0]), float(curve[1][-1])


def _lines(standings: Sequence[Standing]) -> list[list[str]]:
    """The header, and a line for each run."""
    names = sorted({name for standing in standings for name in standing.knn})
    lines = [['method', 'steps', 's/step', 'loss', *(f'k-NN {name}, %' for name in names)]]
    for standing in standings:
        lines.append(
            [
                standing.name,
                f'{standing.steps:,}',
                f'{standing.seconds:.2f}',
                '{:.3g} → {:.3g}'.format(*standing.loss),
                *('{:.1f} → {:.1f}'.format(*standing.knn[name]) for name in names),
            ]
        )
    return lines


def remarks(standings: Sequence[Standing], queries: int | None) -> list[str]:
    """What must stand beneath the table wherever it is shown.

    Args:
        standings: of the table.
        queries: pictures that were classified, if any.
    """
    lines = [
        'First to last logged value; losses of different methods do not compare. One run a method: '
        'nothing here says how much another seed would change.'
    ]
    accuracies = [end for standing in standings for _, end in standing.knn.values()]
    if queries and accuracies:
        share = max(accuracies) / 100
        error = 100 * math.sqrt(share * (1 - share) / queries)
        lines.append(
            f'k-NN of {queries:,} pictures: the standard error of one accuracy is up to '
            f'{error:.1f} points.'
        )
    return lines


def show_race(standings: Sequence[Standing], queries: int | None, console: Console) -> None:
    """Print the table and its remarks."""
    header, *rows = _lines(standings)
    table = Table(header_style='bold')
    table.add_column(header[0], overflow='fold')
    for name in header[1:]:
        table.add_column(name, justify='right')
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)
    for line in remarks(standings, queries):
        console.print(Text(line, style='dim'))


def race_markdown(standings: Sequence[Standing], queries: int | None) -> str:
    """The same as Markdown."""
    header, *rows = _lines(standings)
    lines = [header, ['---', *['---:'] * (len(header) - 1)], *rows]
    table = ''.join('| ' + ' | '.join(line) + ' |\n' for line in lines)
    return table + '\n' + '\n'.join(f'- {line}' for line in remarks(standings, queries)) + '\n'
