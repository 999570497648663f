"""The demo from the drawing of its data to the leaderboard and the images."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from rich.console import Console

from moca.engine.checkpoints import write_atomically
from moca.errors import UserError
from moca.results import tables
from moca.results.leaderboard import RANDOM_INIT, Cell, Leaderboard, build_leaderboard
from moca.transfer.run_reading import read_runs
from tools.demo.display import ProgressDisplay, minutes
from tools.demo.execute import Launch, execute, launch
from tools.demo.overview import draw_overview
from tools.demo.plan import MOCA_ROW, Plan, make_stages
from tools.demo.stages import States
from tools.demo.write import is_current, stamp, write_data

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
    _prepare(plan.folder, fresh)
    with ProgressDisplay(console) as display:
        data = plan.folder / 'data'
        if is_current(data, plan.data):
            display.say(f'already done: {plan.data.total} images in {data}', style='dim')
        else:
            display.say(f'drawing {plan.data.total} images into {data}')
            with display.task('drawing images') as advance:
                write_data(data, plan.data, advance)
            display.say('done: drawing images', style='green')
        states = States(plan.folder, make_stages(plan), stamp(plan.data))
        execute(states, plan.folder / 'logs', jobs, display, launch)
        elapsed = display.elapsed
    board = _leaderboard(plan.folder, console)
    images = [
        states.stages[f'images-{k}'].output for k in ('segmentation', 'detection', 'features')
    ]
    overview = plan.folder / 'images' / 'overview.png'
    # Detection is left out: after so few steps it finds next to nothing.
    draw_overview([images[0], images[2]], overview)
    console.print(
        f'\n{conclusion(board, states.seconds(states.stages["pretrain"]))}', highlight=False
    )
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
