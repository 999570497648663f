"""The leaderboard: one row per checkpoint, one column per protocol and metric.

A column is a protocol *on so many images for so many steps*: runs of other sizes are other
columns, so that no mean is taken over things that were not measured alike, and so are runs whose
options change what is measured, which stand beside nothing published. A cell is the mean over
probe seeds, or over the published splits of one run. Published results stand in rows of their own,
marked with their source and with how it was read.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from moca.errors import UserError
from moca.records.metrics import lower_is_better
from moca.records.run_reading import Omission, Run
from moca.results.published import method_name, published_results

RANDOM_INIT = 'random init'

IMAGE_TOLERANCE = 0.02
"""Data sets count as the same size within 2 %: COCO loses 0.9 % of its images, those without
objects, to the usual filter."""


@dataclass(frozen=True, order=True)
class Column:
    """What was measured: a metric of a protocol, on data of a size, after so many iterations.

    `iterations` is None for a column of published results only, which do not all name them, and 0
    where nothing is trained; `val_images` is None where they do not name that either. `changes`
    are the options by which it is not quite the protocol's, `counted` is what they number: images,
    pairs of images, videos.
    """

    protocol: str
    train_images: int
    val_images: int | None
    iterations: int | None
    metric: str
    title: str = field(compare=False)
    changes: str = ''
    counted: str = field(default='images', compare=False)


@dataclass(frozen=True)
class Row:
    """Whose weights were measured; `source` names where a published result comes from."""

    name: str
    branch: str | None
    arch: str
    source: str | None = None


@dataclass(frozen=True)
class Cell:
    """Values as `moca.records.metrics` has them, in percent where they are shares.

    Attributes:
        values: one per seed of ours; one per split, or per seed of theirs, of a published result
            and of a protocol that measures one checkpoint on several splits.
        seeds: of our runs.
        over: what the values were measured over, ``seeds`` or ``splits``.
        population: whether their deviation divides by n, as published ones do, not by n - 1.
        error: the reading error of a published value.
        evidence: how a published value was read; see ``evidence`` of the published results.
        remark: what else must be known of it.
    """

    values: tuple[float, ...]
    seeds: tuple[int, ...] = ()
    over: str = 'seeds'
    population: bool = False
    error: float | None = None
    evidence: str | None = None
    remark: str | None = None

    @property
    def mean(self) -> float:
        """Mean over seeds or splits."""
        return statistics.fmean(self.values)

    @property
    def deviation(self) -> float | None:
        """Standard deviation, of the sample or of the population; None for a single value."""
        if len(self.values) < 2:
            return None
        return statistics.pstdev(self.values) if self.population else statistics.stdev(self.values)


@dataclass(frozen=True)
class Leaderboard:
    """Rows, columns, cells; what was left out and what a reader must know.

    `runs` are those behind each of our cells, by seed, with those that have given it no value.
    """

    rows: list[Row]
    columns: list[Column]
    cells: dict[tuple[Row, Column], Cell]
    omissions: list[Omission]
    notes: list[str]
    sources: dict[str, str]
    runs: dict[tuple[Row, Column], list[Run]] = field(default_factory=dict)


def build_leaderboard(runs: Iterable[Run], omissions: Iterable[Omission] = ()) -> Leaderboard:
    """Arrange runs, as `read_runs` gives them, and the published results that belong to them."""
    runs, notes = _newest(runs)
    named = _row_names(runs)
    gathered: dict[tuple[Row, Column], list[tuple[int, float]]] = defaultdict(list)
    behind: dict[tuple[Row, Column], list[Run]] = defaultdict(list)
    splits: dict[tuple[Row, Column], tuple[float, ...]] = {}
    columns: dict[Column, None] = {}  # an ordered set: metrics in the protocol's order
    for run in runs:
        row = Row(named[run.checkpoint, run.branch, run.arch, run.path], run.branch, run.arch)
        for metric in run.shown:
            column = _column(run, metric)
            columns[column] = None
            behind[row, column].append(run)
            value = run.metrics[metric]
            if value is not None:
                gathered[row, column].append((run.seed, value))
                splits[row, column] = run.splits.get(metric, ())
            gathered.setdefault((row, column), [])
    ours = sorted({row for row, _ in gathered}, key=_order)
    cells = {key: _measured(found, splits[key]) for key, found in gathered.items() if found}
    published, sources, unknown = _published_cells(runs, columns)
    cells.update(published)
    columns.update({column: None for _, column in published})
    notes += unknown
    notes += [f'{run.folder}: {run.note}.' for run in runs if run.note]
    theirs = sorted({row for row, _ in published}, key=_order)
    return Leaderboard(
        *([*ours, *theirs], sorted(columns, key=_column_order), cells),
        *(list(omissions), notes, sources),
        {key: sorted(found, key=lambda run: run.seed) for key, found in behind.items()},
    )


def _measured(found: Sequence[tuple[int, float]], splits: tuple[float, ...]) -> Cell:
    """The cell of one run for each seed, or of the splits of a single run."""
    if len(found) == 1 and len(splits) > 1:
        return Cell(splits, (found[0][0],), over='splits', population=True)
    return Cell(tuple(v for _, v in sorted(found)), tuple(s for s, _ in sorted(found)))


def sorted_by(board: Leaderboard, metric: str) -> Leaderboard:
    """Return the table with its rows in the order of a column, the best first.

    Ours stay above the published ones, and rows without a value come last of theirs.

    Args:
        board: the table.
        metric: a metric, of which the first column counts, or ``PROTOCOL:METRIC``.

    Raises:
        UserError: there is no such column.
    """
    protocol, _, name = metric.rpartition(':')
    columns = [c for c in board.columns if c.metric == name and protocol in ('', c.protocol)]
    if not columns:
        known = ', '.join(dict.fromkeys(f'{c.protocol}:{c.metric}' for c in board.columns))
        raise UserError(f'--sort {metric}: no such column. There are {known or "none"}.')

    def place(row: Row) -> tuple[bool, bool, float]:
        cell = board.cells.get((row, columns[0]))
        value = 0.0 if cell is None else cell.mean
        return (
            row.source is not None,
            cell is None,
            value if lower_is_better(name) else -value,
        )

    return replace(board, rows=sorted(board.rows, key=place))


def _column(run: Run, metric: str) -> Column:
    return Column(
        *(run.protocol, run.train_images, run.val_images, run.iterations, metric),
        title=run.title,
        changes=run.changes,
        counted=run.counted,
    )


def _column_order(column: Column) -> tuple[Any, ...]:
    # What was measured before what was only published; training-free protocols have 0 steps.
    steps = math.inf if column.iterations is None else column.iterations
    queries = math.inf if column.val_images is None else column.val_images
    return (column.protocol, column.train_images, queries, steps, column.changes)


def _order(row: Row) -> tuple[Any, ...]:
    """Random init last of ours: it is what the others are measured against."""
    return (row.name == RANDOM_INIT, row.name, row.branch or '', row.arch, row.source or '')


def _newest(runs: Iterable[Run]) -> tuple[list[Run], list[str]]:
    """Keep the newest of runs that measured the same thing with the same seed, and say so."""
    newest: dict[tuple[Any, ...], Run] = {}
    notes = []
    for run in sorted(runs, key=lambda run: run.finished_at):
        key = (
            *(run.checkpoint, run.branch, run.arch, run.path, run.protocol, run.seed),
            *(run.train_images, run.val_images, run.iterations, run.changes),
        )
        if key in newest:
            notes.append(
                f'{newest[key].folder} measured the same as {run.folder} '
                f'({run.checkpoint}, {run.protocol}, seed {run.seed}): the newer one counts.'
            )
        newest[key] = run
    return list(newest.values()), notes


def _row_names(runs: list[Run]) -> dict[tuple[str, str | None, str, str | None], str]:
    """Names of rows; checkpoints of the same name but different files get their paths shown."""
    paths: dict[tuple[str, str | None, str], set[str | None]] = defaultdict(set)
    for run in runs:
        paths[run.checkpoint, run.branch, run.arch].add(run.path)
    return {
        (*label, path): label[0] if len(found) == 1 else f'{label[0]} ({path})'
        for label, found in paths.items()
        for path in found
    }


def _published_cells(
    runs: list[Run], ours: Iterable[Column]
) -> tuple[dict[tuple[Row, Column], Cell], dict[str, str], list[str]]:
    """Cells of published results that the runs can be laid beside, their sources, and notes.

    A published value stands in the columns of its protocol that were measured on as many images;
    where there is none, in a column of its own. Runs with changes measure something else.
    """
    library = published_results()
    cells: dict[tuple[Row, Column], Cell] = {}
    sources: dict[str, str] = {}
    notes: list[str] = []
    like = [run for run in runs if run.published and not run.changes]
    tasks = {(run.protocol, run.title, str(run.published)) for run in like}
    for protocol, title, task in sorted(tasks):
        size = library['images'].get(task)
        if size is None:
            notes.append(f'{protocol}: no published results under the name {task!r}.')
            continue
        for result in (r for r in library['results'] if r['task'] == task):
            metric = result['metric']
            alike = [
                column
                for column in ours
                if (column.protocol, column.metric, column.changes) == (protocol, metric, '')
                and _close(column.train_images, size['train_images'])
                and _close(column.val_images, size['val_images'])
            ]
            own = Column(
                *(protocol, size['train_images'], size['val_images'], None, metric),
                title=title,
                counted=size.get('counted', 'images'),
            )
            row = Row(method_name(result), None, result['arch'], result['source'])
            for column in alike or [own]:
                cells[row, column] = _published_cell(result)
            sources[result['source']] = library['sources'][result['source']]
    return cells, sources, notes


def _published_cell(result: dict[str, Any]) -> Cell:
    return Cell(
        tuple(result.get('values') or [result['value']]),
        over=result.get('over', 'seeds'),
        population=True,
        error=result.get('error'),
        evidence=result['evidence'],
        remark=result.get('remark'),
    )


def _close(count: int | None, published: int | None) -> bool:
    """Whether two numbers of images are of one data set; none is like one that nobody names."""
    if count is None or published is None:
        return False
    return abs(count - published) <= IMAGE_TOLERANCE * published
