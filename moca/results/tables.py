"""The leaderboard as a table for the terminal, as Markdown, as CSV and as a plot."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from moca.errors import UserError
from moca.records.metrics import best_value, in_percent, metric_heading, value_text
from moca.records.run_reading import Omission
from moca.results.leaderboard import RANDOM_INIT, Cell, Column, Leaderboard, Row
from moca.results.published import READ, published_results

DASH = '–'

BAR_COLORS = ('#2b6ca3', '#8c9bab')

SHOWN = 5
"""Names in a line that is about several."""

NAMES_WIDTH, COLUMN_WIDTH = 58, 20
"""Characters that the two columns of names and each column of values want in a terminal."""


def heading(column: Column) -> str:
    """Lines: protocol, metric, numbers of images (training / validation) and of steps, changes."""
    steps = 'published' if column.iterations is None else f'{column.iterations:,} steps'
    if column.iterations == 0:
        steps = 'no training'
    queries = 'unstated' if column.val_images is None else f'{column.val_images:,}'
    sizes = f'{column.train_images:,} / {queries} {column.counted}'
    changes = [f'with {column.changes}'] if column.changes else []
    return '\n'.join([column.title, metric_heading(column.metric), sizes, steps, *changes])


def cell_text(cell: Cell | None, metric: str = '') -> str:
    """`52.1 ± 0.4 (3)` for three seeds, `52.1` for one, a dash where nothing was measured.

    A published value that was not read in its authors' code or README carries how it was, such as
    ``[F]``; one with a remark, which stands beneath the table, an asterisk.
    """
    if cell is None:
        return DASH
    text = value_text(metric, cell.mean)
    if cell.deviation is not None:
        text += f' ± {value_text(metric, cell.deviation)} ({len(cell.values)})'
    if cell.evidence not in (None, READ):
        text += f' [{cell.evidence}]'
    return text + ('*' if cell.remark else '')


def origin(row: Row) -> str:
    """Whether a row is ours, or where it was published."""
    return 'measured here' if row.source is None else f'published [{row.source}]'


def remarks(board: Leaderboard) -> list[str]:
    """What must stand beneath the table wherever it is shown."""
    several = {cell.over for cell in board.cells.values() if cell.evidence is None}
    over = ['probe seeds (number of seeds)'] if 'seeds' in several or not several else []
    lines = [_unit(board) + f'mean ± sample standard deviation over {each}.' for each in over]
    if 'splits' in several:
        lines.append(
            'Measured over splits: mean ± population standard deviation (number of splits), as it '
            'is published.'
        )
    if board.sources:
        lines.append(
            "Published rows are other people's measurements, with other software; a row of another "
            'architecture, or a column of other numbers of images, is no comparison.'
        )
        if any(cell.evidence and cell.deviation for cell in board.cells.values()):
            lines.append('± of published rows is the population standard deviation, as published.')
        lines += _evidence(board)
        lines += [f'[{key}] {text}.' for key, text in sorted(board.sources.items())]
    return [*lines, *_cell_remarks(board), *board.notes]


def _unit(board: Leaderboard) -> str:
    others = {column.metric: None for column in board.columns if not in_percent(column.metric)}
    but = f' (but {", ".join(others)})' if others else ''
    return f'In percent{but}: '


def _evidence(board: Leaderboard) -> list[str]:
    """What the letters behind published values stand for."""
    legend = published_results()['evidence']
    found = sorted({c.evidence for c in board.cells.values() if c.evidence} - {READ})
    if not found:
        return []
    told = '; '.join(f'[{letter}] {legend[letter]}' for letter in found)
    return [f'Published values were {legend[READ]} unless marked: {told}.']


def _cell_remarks(board: Leaderboard) -> list[str]:
    """Remarks of published values, each once, with the methods that it is about."""
    methods: dict[str, dict[str, None]] = {}
    for (row, column), cell in board.cells.items():
        if cell.remark:
            text = f'{column.title}: {cell.remark}'
            methods.setdefault(text, {})[row.name] = None
    return [f'* {", ".join(names)}, {text}.' for text, names in methods.items()]


def counted_lines(reasons: Sequence[tuple[str, str]]) -> list[str]:
    """Names and reasons, in a line for each reason, with the number of those that share it.

    Example:
        >>> counted_lines([('a', 'no result'), ('b', 'is damaged'), ('c', 'no result')])
        ['2 times: no result (a, c)', 'b: is damaged']
    """
    names: dict[str, list[str]] = {}
    for name, reason in reasons:
        names.setdefault(reason, []).append(name)
    return [
        f'{some[0]}: {reason}'
        if len(some) == 1
        else f'{len(some)} times: {reason} ({", ".join(some[:SHOWN])}'
        + (f' and {len(some) - SHOWN} more)' if len(some) > SHOWN else ')')
        for reason, some in names.items()
    ]


def omission_lines(omissions: Sequence[Omission]) -> list[str]:
    """Lines for the runs that are not in the table."""
    return counted_lines([(str(omission.folder), omission.reason) for omission in omissions])


def show(board: Leaderboard, console: Console) -> None:
    """Print the table, the remarks, and the runs that are not in it.

    What is too wide for the terminal comes as several tables below each other, a protocol in one
    of them where it fits.
    """
    if board.rows:
        at_once = max(1, (console.width - NAMES_WIDTH) // COLUMN_WIDTH)
        for columns in beside(board.columns, at_once):
            console.print(_table(board, columns))
        for line in remarks(board):
            console.print(Text(line, style='dim'))
    if board.omissions:
        console.print(Text('Not in the table:', style='bold yellow'))
        for line in omission_lines(board.omissions):
            console.print(Text('  ' + line, style='yellow'))


def beside(columns: Sequence[Column], at_once: int) -> list[list[Column]]:
    """Columns of each table, `at_once` at most; only a protocol of more is split over several."""
    found: list[list[Column]] = []
    for _, group in itertools.groupby(columns, key=lambda column: column.protocol):
        own = list(group)
        if found and len(found[-1]) + len(own) <= at_once:
            found[-1] += own
        else:
            found += [own[start : start + at_once] for start in range(0, len(own), at_once)]
    return found


def is_best(board: Leaderboard, row: Row, column: Column) -> bool:
    """Whether a row of ours has the best value of a column, of two such rows or more."""
    ours = [
        cell.mean
        for (other, place), cell in board.cells.items()
        if place == column and other.source is None
    ]
    cell = board.cells.get((row, column))
    if cell is None or row.source is not None or len(ours) < 2:
        return False
    return cell.mean == best_value(column.metric, ours)


def _table(board: Leaderboard, columns: list[Column]) -> Table:
    """Some columns, with the rows that have a value in any of them."""
    table = Table(header_style='bold')
    table.add_column('checkpoint', overflow='fold')
    table.add_column('arch', overflow='fold')
    for column in columns:
        table.add_column(heading(column), justify='right')
    rows = [row for row in board.rows if any((row, column) in board.cells for column in columns)]
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        values = [
            Text(
                cell_text(board.cells.get((row, column)), column.metric),
                style='bold green' if is_best(board, row, column) else '',
            )
            for column in columns
        ]
        name = row.name if row.branch is None else f'{row.name} ({row.branch})'
        if row.source is not None:
            name += f', published [{row.source}]'
        table.add_row(
            *(Text(text) for text in (name, row.arch)),
            *values,
            end_section=following is not None
            and (row.source is None) != (following.source is None),
            style='dim' if row.source else None,
        )
    return table


def markdown(board: Leaderboard) -> str:
    """The same as Markdown; the caller's document starts where it likes."""
    header = ['checkpoint', 'branch', 'arch']
    header += [heading(column).replace('\n', '<br>') for column in board.columns] + ['origin']
    rule = ['---'] * 3 + ['---:'] * len(board.columns) + ['---']
    lines = [header, rule] if board.rows else []
    for row in board.rows:
        cells = [_marked(board, row, column) for column in board.columns]
        lines.append([row.name, row.branch or DASH, row.arch, *cells, origin(row)])
    text = ''.join('| ' + ' | '.join(_escape(c) for c in line) + ' |\n' for line in lines)
    told = (line.replace('*', r'\*') for line in remarks(board))
    text += '\n' + '\n'.join(f'- {line}' for line in told) + '\n'
    if board.omissions:
        text += '\nNot in the table:\n\n'
        text += '\n'.join(f'- {line}' for line in omission_lines(board.omissions)) + '\n'
    return text


def _marked(board: Leaderboard, row: Row, column: Column) -> str:
    text = cell_text(board.cells.get((row, column)), column.metric).replace('*', r'\*')
    return f'**{text}**' if is_best(board, row, column) else text


def _escape(text: str) -> str:
    return text.replace('|', '\\|')


def frame(board: Leaderboard) -> pd.DataFrame:
    """One line per cell, with full precision: what a reader computes on."""
    lines: list[dict[str, Any]] = []
    for row in board.rows:
        for column in board.columns:
            cell = board.cells.get((row, column))
            if cell is None:
                continue
            lines.append(
                dict(
                    origin='ours' if row.source is None else 'published',
                    source=row.source,
                    checkpoint=row.name,
                    branch=row.branch,
                    arch=row.arch,
                    protocol=column.protocol,
                    changes=column.changes or None,
                    metric=column.metric,
                    mean=cell.mean,
                    std=cell.deviation,
                    n=len(cell.values),
                    over=cell.over,
                    population=cell.population,
                    seeds=' '.join(map(str, cell.seeds)),
                    reading_error=cell.error,
                    evidence=cell.evidence,
                    remark=cell.remark,
                    train_images=column.train_images,
                    val_images=column.val_images,
                    iterations=column.iterations,
                )
            )
    table = pd.DataFrame(lines)
    for name in {'iterations', 'val_images'} & set(table):
        table[name] = table[name].astype('Int64')  # whole, though some are missing
    return table


def plot(board: Leaderboard, path: Path) -> None:
    """Bars with error bars, a panel per column that has a result of ours."""
    from moca.figures import plt, save_figure  # matplotlib takes a second to import

    ours = {column for row, column in board.cells if row.source is None}
    if not ours:
        raise UserError(f'{path}: nothing to plot, no run has finished.')
    columns = [column for column in board.columns if column in ours]
    figure, axes = plt.subplots(
        1,
        len(columns),
        figsize=(1.2 + 3.2 * len(columns), 3.6),
        squeeze=False,
        layout='constrained',
    )
    for axis, column in zip(axes[0], columns, strict=True):
        shown = [
            (row, board.cells[row, column]) for row in board.rows if (row, column) in board.cells
        ]
        for place, (row, cell) in enumerate(shown):
            color = '#c9c9c9' if row.source else BAR_COLORS[row.name == RANDOM_INIT]
            axis.bar(place, cell.mean, yerr=cell.deviation, color=color, capsize=4, width=0.65)
            top = cell.mean + (cell.deviation or 0.0)
            axis.annotate(
                cell_text(cell, column.metric).replace(' (', '\n('),
                (place, top),
                (0, 4),
                textcoords='offset points',
                ha='center',
                fontsize=8,
            )
        axis.set_xticks(range(len(shown)), [_tick(row) for row, _ in shown], fontsize=7)
        axis.margins(y=0.18)
        axis.set_title(heading(column).replace('\n', ' · ', 1), fontsize=8)
        axis.spines[['top', 'right']].set_visible(False)
    save_figure(figure, path)


def _tick(row: Row) -> str:
    return f'{row.name}\n{row.arch}' + ('' if row.source is None else '\npublished')
