"""What a report shows of a leaderboard: a line for each cell, and bars of each column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from moca.records.metrics import lower_is_better, metric_heading
from moca.results import tables
from moca.results.leaderboard import RANDOM_INIT, Cell, Column, Leaderboard, Row
from moca.results.report import charts


@dataclass(frozen=True)
class Result:
    """A line of the table: a value, and all that it was measured on."""

    protocol: str
    title: str
    metric: str
    name: str
    branch: str
    arch: str
    text: str
    value: float
    over: str
    images: str
    steps: str
    changes: str
    origin: str
    published: bool
    best: bool
    remark: str
    runs: tuple[int, ...] = ()


@dataclass(frozen=True)
class Chart:
    """The bars of a column."""

    heading: Sequence[str]
    bars: Sequence[charts.Bar]


@dataclass(frozen=True)
class Protocol:
    """A protocol's name, its title and the bars of each of its columns."""

    name: str
    title: str
    charts: Sequence[Chart]


def result_lines(board: Leaderboard, numbers: Mapping[Path, int]) -> list[Result]:
    """Every cell, by protocol and metric, the best first."""
    found = []
    for column in board.columns:
        for row, cell in _best_first(board, column):
            _, _, images, steps, *changes = tables.heading(column).split('\n')
            behind = board.runs.get((row, column), [])
            found.append(
                Result(
                    *(column.protocol, column.title, metric_heading(column.metric), row.name),
                    *(row.branch or '', row.arch, tables.cell_text(cell, column.metric)),
                    value=cell.mean,
                    over=_over(cell),
                    images=images.removesuffix(' images'),
                    steps=steps.removesuffix(' steps'),
                    changes=''.join(changes),
                    origin=tables.origin(row),
                    published=row.source is not None,
                    best=tables.is_best(board, row, column),
                    remark=cell.remark or '',
                    runs=tuple(numbers[run.folder] for run in behind),
                )
            )
    return found


def _best_first(board: Leaderboard, column: Column) -> list[tuple[Row, Cell]]:
    """The rows that have a value in a column."""
    cells = [(row, cell) for row in board.rows if (cell := board.cells.get((row, column)))]
    sign = 1 if lower_is_better(column.metric) else -1
    return sorted(cells, key=lambda pair: sign * pair[1].mean)


def _over(cell: Cell) -> str:
    if cell.over == 'seeds' and cell.seeds:
        return f'seed{"s" if len(cell.seeds) > 1 else ""} {" ".join(map(str, cell.seeds))}'
    several = len(cell.values) > 1
    return f'{len(cell.values)} {cell.over}' if several else ''


def protocol_bars(board: Leaderboard) -> list[Protocol]:
    """The bars of each column, the best first."""
    found: dict[str, list[tuple[Column, Chart]]] = {}
    for column in board.columns:
        cells = _best_first(board, column)
        values = [
            (
                row_title(row),
                row.arch if row.source is None else f'{row.arch}, {tables.origin(row)}',
                tables.cell_text(cell, column.metric),
                *(cell.mean, cell.deviation, _kind(row)),
            )
            for row, cell in cells
        ]
        _, metric, *about = tables.heading(column).split('\n')
        chart = Chart([metric, *about], charts.bars(values))
        if cells:
            found.setdefault(column.protocol, []).append((column, chart))
    return [
        Protocol(name, pairs[0][0].title, [chart for _, chart in pairs])
        for name, pairs in found.items()
    ]


def row_title(row: Row) -> str:
    """Return the name of a row with its branch."""
    return row.name if row.branch is None else f'{row.name} ({row.branch})'


def _kind(row: Row) -> str:
    if row.source is not None:
        return 'published'
    return 'random' if row.name.startswith(RANDOM_INIT) else 'ours'
