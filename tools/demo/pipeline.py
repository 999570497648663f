"""The demo from the drawing of its data to the leaderboard and the images."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from rich.console import Console

from moca.errors import UserError
from moca.records.run_reading import read_runs
from moca.records.whole_files import write_atomically
from moca.results import tables
from moca.results.leaderboard import RANDOM_INIT, Cell, Leaderboard, build_leaderboard
from tools.demo.execute import Launch, Say, execute, launch, minutes, progress_bars
from tools.demo.overview import draw_overview
from tools.demo.plan import MOCA_ROW, Plan, make_stages
from tools.demo.stages import Notes
from tools.demo.write import is_current, write_data

JOBS = 2
"""Stages at a time, of one thread each, where there are as many cores."""


def run_demo(plan: Plan, console: Console, fresh: bool = False, launch: Launch = launch) -> None:
    """Run what earlier runs have not finished, and show what came out.

    Args:
        plan: sizes of the demo.
        console: where everything is printed.
        fresh: start over instead of going on.
        launch: starts a command; tests give another.

    Raises:
        UserError: if the folder holds something else than a demo.
        StageFailed: if a stage's process fails.
    """
    jobs = min(JOBS, os.cpu_count() or 1)
    begun = time.monotonic()

    def say(text: str, style: str | None = None) -> None:
        """Print a line after the time spent so far, never wrapped: commands are to be copied."""
        line = f'[{minutes(time.monotonic() - begun):>5}] {text}'
        console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)

    _prepare(plan.folder, fresh)
    _draw_data(plan, console, say)
    notes = Notes(plan.folder, make_stages(plan))
    execute(notes, plan.folder / 'logs', jobs, console, say, launch)
    elapsed = time.monotonic() - begun
    board = _leaderboard(plan.folder, console)
    images = [notes.stages[f'images-{k}'].output for k in ('segmentation', 'detection', 'features')]
    overview = plan.folder / 'images' / 'overview.png'
    # Detection is left out: after so few steps it finds next to nothing.
    draw_overview([images[0], images[2]], overview)
    seconds = notes.seconds(notes.stages['pretrain']) or 0.0
    console.print(f'\n{conclusion(board, seconds)}', highlight=False)
    console.print('\nImages:', style='bold')
    for path in (overview, *images, plan.folder / 'leaderboard.png'):
        console.print(f'  {path}', highlight=False)
    console.print(f'Time of this run: {minutes(elapsed)}, {jobs} at a time.', highlight=False)


def _prepare(folder: Path, fresh: bool) -> None:
    """Make the work dir, or empty it; a folder of something else is left alone."""
    mark = folder / 'stages'
    if folder.exists() and any(folder.iterdir()) and not mark.is_dir():
        raise UserError(f'{folder}: holds files that are no demo; choose another --work-dir.')
    if fresh:
        shutil.rmtree(folder, ignore_errors=True)
    mark.mkdir(parents=True, exist_ok=True)


def _draw_data(plan: Plan, console: Console, say: Say) -> None:
    """Draw the images unless they are there; what was run on other images is forgotten."""
    data = plan.folder / 'data'
    if is_current(data, plan.data):
        say(f'already done: {plan.data.total} images in {data}', style='dim')
        return
    for note in (plan.folder / 'stages').iterdir():
        note.unlink()
    say(f'drawing {plan.data.total} images into {data}')
    with progress_bars(console) as bars:
        bar = bars.add_task('drawing images', total=1.0, note='')

        def advance(done: int, total: int) -> None:
            bars.update(bar, completed=done / total)

        write_data(data, plan.data, advance)
    say('done: drawing images', style='green')


def _leaderboard(folder: Path, console: Console) -> Leaderboard:
    """Print the table, and write it as Markdown, CSV and a plot."""
    files = {kind: folder / f'leaderboard.{suffix}' for kind, suffix in
             (('markdown', 'md'), ('csv', 'csv'), ('plot', 'png'))}  # fmt: skip
    options = ' '.join(f'--{kind} {path}' for kind, path in files.items())
    console.print(f'\n$ python tools/leaderboard.py show {folder} {options}', highlight=False)
    board = build_leaderboard(*read_runs([folder]))
    tables.show(board, console)
    write_atomically(files['markdown'], tables.markdown(board).encode())
    write_atomically(files['csv'], tables.frame(board).to_csv(index=False).encode())
    tables.plot(board, files['plot'])
    return board


def conclusion(board: Leaderboard, seconds: float) -> str:
    """What the probe shows, and what it does not.

    MOCA counts as above random init only if the difference of the means exceeds the sum of the two
    deviations.
    """
    moca, random = _probe(board, MOCA_ROW), _probe(board, RANDOM_INIT)
    text = (
        f'Linear probe: {tables.cell_text(moca)} mIoU on features of MOCA after {minutes(seconds)} '
        f'minutes of pre-training, {tables.cell_text(random)} on random weights of the same '
        'architecture, probe and seeds. '
    )
    gap = round(moca.mean, 1) - round(random.mean, 1)  # of the two as they are shown
    spread = (moca.deviation or 0.0) + (random.deviation or 0.0)
    if gap > spread:
        text += f'MOCA is {gap:.1f} above, more than the deviations together ({spread:.1f}).'
    elif gap > -spread:
        text += f'The difference of {gap:+.1f} is within the deviations ({spread:.1f}): no claim.'
    else:
        text += f'MOCA is {-gap:.1f} below: so short a pre-training is of no use to this probe.'
    return (
        f'{text}\nFine-tuning and detection ran once each: their differences have no deviation to '
        'be held against. One pre-training on generated images, by a CPU, shows that the chain '
        'works from end to end; it says little about the method.'
    )


def _probe(board: Leaderboard, name: str) -> Cell:
    for (row, column), cell in board.cells.items():
        if row.name == name and column.protocol == 'demo_linear_bn':
            return cell
    raise UserError(f'no linear probe of {name!r} has finished.')
