"""The table of a race: losses and k-NN accuracies, from where each run began to where it ended."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from moca.errors import UserError
from moca.records.run_logs import Curve, read_curves
from moca.results.race import KNN, Racer

Span = tuple[float, float]
"""A value where a run began, and where it ended."""


@dataclass(frozen=True)
class Standing:
    """How one run went.

    Attributes:
        name: of its config.
        steps: of the optimizer.
        seconds: a step, the median of what was logged; None of a run too short for a line.
        loss: of the first and the last line of the log, each a mean over a few steps; likewise.
        knn: top-1 accuracy in percent by the name of the curve (``top1_k10``): before the first
            step and at the end; empty if it was not measured.
        teachers: files that it distilled from.
    """

    name: str
    steps: int
    seconds: float | None
    loss: Span | None
    knn: dict[str, Span]
    teachers: tuple[Path, ...] = ()


def read_standings(racers: Sequence[Racer]) -> list[Standing]:
    """Read the logs of the runs that are finished, the best k-NN accuracy first."""
    found = [_standing(racer) for racer in racers if racer.finished]
    return sorted(found, key=lambda standing: [-end for _, end in standing.knn.values()] or [0.0])


def check_steps(standings: Sequence[Standing]) -> None:
    """Verify that all took equally many steps, which depends on where they ran as well.

    Raises:
        UserError: naming the steps of each.
    """
    if len({standing.steps for standing in standings}) > 1:
        found = ', '.join(f'{standing.steps} of {standing.name}' for standing in standings)
        raise UserError(
            f'No race on equal terms: steps {found}. They ran in other numbers of processes, or on '
            'other images. Move the work dirs of some away and give all the same --launcher, '
            '--gpus, --accumulate and images.'
        )


def _standing(racer: Racer) -> Standing:
    curves = read_curves(racer.folder)
    knn = {
        name.removeprefix(KNN): _span(curve)
        for name, curve in sorted(curves.items())
        if name.startswith(KNN)
    }
    seconds = statistics.median(curves['time'][1]) if 'time' in curves else None
    loss = _span(curves['loss']) if 'loss' in curves else None
    return Standing(racer.title, racer.steps, seconds, loss, knn, racer.teachers)


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
                '–' if standing.seconds is None else f'{standing.seconds:.2f}',
                '–' if standing.loss is None else '{:.3g} → {:.3g}'.format(*standing.loss),
                *(_accuracy(standing.knn.get(name)) for name in names),
            ]
        )
    return lines


def _accuracy(span: Span | None) -> str:
    return '–' if span is None else f'{span[0]:.1f} → {span[1]:.1f}'


def remarks(standings: Sequence[Standing], queries: int | None) -> list[str]:
    """What must stand beneath the table wherever it is shown.

    Args:
        standings: of the table.
        queries: images that were classified, if any.
    """
    lines = [
        'First to last logged value; losses of different methods do not compare. One run a method: '
        'nothing here says how much another seed would change.'
    ]
    if len({standing.steps for standing in standings}) > 1:
        lines.append('The numbers of steps differ: this is no race on equal terms.')
    accuracies = [end for standing in standings for _, end in standing.knn.values()]
    for standing in standings:
        if standing.teachers:
            files = ' and '.join(str(Path(*file.parts[-2:])) for file in standing.teachers)
            lines.append(
                f'{standing.name} learns from {files}: what they were trained for comes on top of '
                'its steps.'
            )
    if queries and accuracies:
        error = max(math.sqrt(share * (100 - share) / queries) for share in accuracies)
        lines.append(
            f'k-NN of {queries:,} images: the standard error of one accuracy is up to '
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
