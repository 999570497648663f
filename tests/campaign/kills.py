"""Runs that get a signal at a random moment, and go on: they have to end as if nothing had been."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from moca.engine.checkpoints import latest_checkpoint
from moca.engine.run_logs import read_curves
from tests.campaign.campaign import Area, Outcome
from tests.campaign.tiny_runs import EVERY, KINDS, STEPS, Kind
from tests.campaign.tool_runs import ALL, PRETRAINING, Ended, Moment, Start, run

Draw = random.Random
PHASES = ('start-up', 'step', 'checkpoint', 'validation', 'log', 'record', 'end')
SIGNALS = (*[signal.SIGKILL] * 4, signal.SIGTERM, signal.SIGINT)
"""Two in three are kills."""

BEFORE: Callable[[Start], None] | None = None
"""What each process does first; an injected fault."""

INTERRUPTED = {signal.SIGTERM: 143, signal.SIGINT: 130}


class Fault(Exception):
    """What is not promised: the result of a case, and what it was."""

    def __init__(self, result: str, detail: object) -> None:
        super().__init__(result, str(detail))


def starts(
    kind: Kind, told: list[str], folder: Path, moments: dict[int, Moment], **fields: Any
) -> list[Start]:
    """A run of a kind, or its going on, by one process or by several that meet."""
    with socket.socket() as free:
        free.bind(('localhost', 0))
        port = str(free.getsockname()[1])
    work_dir = folder / 'run'
    arguments = [*told, '--work-dir', str(work_dir), '--resume']
    found = []
    for rank in range(kind.processes):
        launcher = {}
        if kind.processes > 1:
            launcher = dict(RANK=str(rank), LOCAL_RANK=str(rank), MASTER_ADDR='localhost')
            launcher |= dict(WORLD_SIZE=str(kind.processes), MASTER_PORT=port)
        start = Start(kind.tool, arguments, work_dir, folder / f'log{rank}', moments.get(rank))
        found.append(replace(start, environment=launcher, **{'before': BEFORE, **fields}))
        if launcher:
            found[-1].arguments = [*arguments, '--launcher', 'pytorch']
    return found


class Reference:
    """A run that nothing happens to, made once for each kind by each process of a campaign."""

    made: dict[str, Reference] = {}  # noqa: RUF012  (shared by all cases on purpose)

    def __init__(self, kind: Kind, folder: Path, modules: Sequence[str]) -> None:
        folder.mkdir(parents=True)
        self.told = kind.write(folder)
        ended = run(*starts(kind, self.told, folder, {}), modules=modules)
        if any(each.code for each in ended):
            raise RuntimeError(f'{kind.name}: {ended}')
        self.run = folder / 'run'
        phases = [event.split(' ')[0] for event in ended[0].events]
        self.counts = {phase: phases.count(phase) for phase in PHASES if phase in phases}

    @classmethod
    def of(cls, kind: Kind, scratch: Path, modules: Sequence[str]) -> Reference:
        """The one of a kind."""
        key = f'{scratch}/{kind.name}'
        if key not in cls.made:
            folder = scratch / f'whole{os.getpid()}' / kind.name.replace(' ', '_')
            cls.made[key] = cls(kind, folder, modules)
        return cls.made[key]


def go_on(kind: Kind, told: list[str], folder: Path, modules: Sequence[str]) -> None:
    """Let a run go on to its end.

    Raises:
        Fault: It does not.
    """
    for ended in run(*starts(kind, told, folder, {}), modules=modules):
        if ended.code or ended.orphans:
            raise Fault('does not go on', f'exit {ended.code}: {ended.said[-2000:]}')


def draw_moment(draw: Draw, counts: dict[str, int]) -> Moment:
    """A phase, one of its events, and for every other some time that passes after it."""
    phase = draw.choice(sorted(counts))
    count = draw.randint(1, counts[phase])
    delay = draw.choice((0.0, draw.uniform(0.001, 0.02)))
    return Moment(phase, count, delay, draw.choice(SIGNALS))


def steps_of(path: Path | None) -> int:
    """After how many steps a checkpoint was written; 0 for none."""
    return int(path.stem.rpartition('_')[2]) if path else 0


def check_left(folder: Path, before: int, ended: Ended) -> None:
    """Hold what a process leaves behind against what it did: nothing broken, nothing lost.

    Args:
        folder: The work dir.
        before: The step that the process started from.
        ended: The process.

    Raises:
        Fault: It is not as promised.
    """
    for path in sorted(folder.rglob('*.pth')) if folder.is_dir() else ():
        try:
            torch.load(path, weights_only=False)
        except Exception as error:
            raise Fault('unreadable', f'{path.name}: {error!r}') from error
    for path in folder.glob('run*.json'):
        try:
            json.loads(path.read_text())
        except ValueError as error:
            raise Fault('unreadable', f'{path.name}: {error}') from error
    newest = steps_of(latest_checkpoint(folder)) if folder.is_dir() else 0
    # the last one may have been at work
    saved = ended.count('before_save_checkpoint') - 1
    if newest < before or (saved > 0 and newest < before + EVERY * saved):
        raise Fault('lost', f'from {before}, {saved} saved, the newest is {newest}')
    if is_locked(folder):
        raise Fault('locked', folder)


def is_locked(folder: Path) -> bool:
    """Whether a process has a work dir."""
    with contextlib.suppress(FileNotFoundError), (folder / '.lock').open('r+') as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def check_signal(moment: Moment, before: int, folder: Path, ended: Ended) -> None:
    """Hold the end of a process against the signal that it got.

    Raises:
        Fault: It is not as promised.
    """
    if ended.orphans:
        raise Fault('orphan', ended.orphans)
    if moment.number == signal.SIGKILL:
        if ended.code not in (-signal.SIGKILL, 0):  # 0: the moment did not come
            raise Fault('traceback', f'exit {ended.code}: {ended.said[-2000:]}')
        return
    code = INTERRUPTED[signal.Signals(moment.number)]
    # before the run, SIGTERM ends a process as it ends any; after it, there is nothing to save
    if ended.code not in (code, 0, -moment.number) or 'Traceback' in ended.said:
        raise Fault('traceback', f'exit {ended.code}: {ended.said[-2000:]}')
    if ended.code == code:
        last = ended.said.strip().splitlines()[-1]
        if not last.startswith('Interrupted.'):
            raise Fault('unnamed', last)
        done = before + ended.count('after_train_iter')
        newest = steps_of(latest_checkpoint(folder)) if folder.is_dir() else 0
        if moment.phase == 'step' and 'Saved: ' in last and newest != done:
            raise Fault('lost', f'{done} steps were taken, the newest checkpoint is {newest}')


def check_same(ours: Path, whole: Path, alike: int = STEPS) -> None:
    """Hold a work dir against that of a run to which nothing has happened.

    Args:
        ours: The work dir.
        whole: The other one.
        alike: The step up to which they have to be alike bit for bit; after it, other crops of the
            same images are drawn.

    Raises:
        Fault: They differ.
    """
    if partial := [path.name for path in ours.rglob('.*.partial')]:
        raise Fault('partial', partial)
    names = [sorted(path.name for path in each.glob('*.pth')) for each in (ours, whole)]
    if f'iter_{STEPS}.pth' not in names[0]:
        raise Fault('differs', names)
    loaded = (
        torch.load(folder / f'iter_{STEPS}.pth', weights_only=False) for folder in (ours, whole)
    )
    mine, theirs = (
        {key: content.get(key) for key in ('state_dict', 'optimizer', 'ema_state_dict')}
        for content in loaded
    )
    if alike == STEPS and (different := list(differing(mine, theirs))):
        raise Fault('differs', different[:5])
    if mine['state_dict'].keys() != theirs['state_dict'].keys():
        raise Fault('differs', 'names of weights')
    noted = (ours / 'last_checkpoint').read_text().rpartition('/')[2]
    if noted != f'iter_{STEPS}.pth':
        raise Fault('differs', f'last_checkpoint names {noted}')
    records = [json.loads((each / 'run.json').read_text()) if (each / 'run.json').is_file() else {}
               for each in (ours, whole)]  # fmt: skip
    results = ('metrics', 'best') if alike == STEPS else ()
    for key in ('status', 'iterations', 'train_images', *results):
        if records[0].get(key) != records[1].get(key):
            raise Fault('differs', [key, *(record.get(key) for record in records)])
    curves = [read_curves(each)['loss'] for each in (ours, whole)]
    (mine, theirs) = ([steps.tolist(), values.tolist()[:alike]] for steps, values in curves)
    if mine != theirs:
        raise Fault('log differs', [mine, theirs])


def differing(mine: Any, theirs: Any, name: str = '') -> Iterator[str]:
    """Names of the values in which nested dicts and lists differ, tensors bit by bit."""
    if isinstance(theirs, Tensor):
        same = isinstance(mine, Tensor) and torch.equal(mine, theirs)
    elif isinstance(theirs, dict):
        same = isinstance(mine, dict) and mine.keys() == theirs.keys()
        for key in theirs if same else ():
            yield from differing(mine[key], theirs[key], f'{name}.{key}')
    elif isinstance(theirs, list | tuple):
        same = isinstance(mine, list | tuple) and len(mine) == len(theirs)
        for place, value in enumerate(theirs if same else ()):
            yield from differing(mine[place], value, f'{name}.{place}')
    else:
        same = bool(mine == theirs)
    if not same:
        yield name


class Kills(Area):
    """Signals in the middle of runs of every kind."""

    name = 'kills'
    title = 'Kills'
    seconds = 600.0
    modules = ALL

    def count(self, quick: bool) -> int:
        """Some eight of each kind of run, one signal or two each; a pre-training with ``quick``."""
        self.modules = PRETRAINING if quick else ALL
        return 1 if quick else 100

    def run(self, number: int, folder: Path) -> Outcome:
        """A run that gets a signal, once or in its resumption as well, and then goes on."""
        folder, kind = folder.resolve(), KINDS[number % len(KINDS)]
        draw = random.Random(f'{self.seed} {number}')
        reference = Reference.of(kind, folder.parent, self.modules)
        told: list[Moment] = []
        alike = STEPS
        try:
            for _ in range(draw.choice((1, 1, 2))):
                moment = draw_moment(draw, reference.counts)
                told.append(moment)
                newest = self._interrupt(kind, reference, folder, moment, draw)
                # from random weights, anything starts again as it has
                alike = min(alike, newest or STEPS) if not kind.exact else STEPS
            go_on(kind, reference.told, folder, self.modules)
            check_same(folder / 'run', reference.run, alike)
        except Fault as fault:
            return Outcome(kind.name, fault.args[0], f'{told}: {fault.args[1]}')
        result = 'equal' if alike == STEPS else 'accepted'
        return Outcome(kind.name, result, str([*map(_short, told)]))

    def _interrupt(
        self, kind: Kind, reference: Reference, folder: Path, moment: Moment, draw: Draw
    ) -> int:
        """Run until the signal; returns the step of the newest checkpoint, 0 for none."""
        left = folder / 'run'
        before = steps_of(latest_checkpoint(left)) if left.is_dir() else 0
        victim = draw.randrange(kind.processes)
        ended = run(*starts(kind, reference.told, folder, {victim: moment}), modules=self.modules)
        left = folder / 'run'
        if kind.processes == 1:
            check_signal(moment, before, left, ended[0])
        elif late := [each.orphans for each in ended if each.orphans]:
            raise Fault('orphan', late)
        check_left(left, before, ended[0])
        newest = latest_checkpoint(left) if left.is_dir() else None
        whole = reference.run / newest.name if newest else left
        if newest and whole.is_file() and not kind.exact and before == 0:
            states = (
                torch.load(path, weights_only=False)['state_dict'] for path in (newest, whole)
            )
            if different := list(differing(*states)):
                raise Fault('differs', [newest.name, different[:5]])
        return steps_of(newest)

    def inject(self) -> None:
        """Checkpoints are written where they are to be read, and slowly."""
        globals().update(
            BEFORE=write_in_place, draw_moment=lambda draw, counts: Moment('checkpoint', 2, 0.1)
        )


def _short(moment: Moment) -> str:
    return f'{signal.Signals(moment.number).name} at {moment.phase} {moment.count}'


def write_in_place(start: Start) -> None:
    """Have checkpoints be written without a partial file."""
    from moca.engine import checkpoints

    @contextlib.contextmanager
    def plain_file(path: str | Path) -> Iterator[Any]:
        with Path(path).open('wb') as file:
            time.sleep(0.5)  # in which the signal comes
            yield file

    checkpoints.atomic_file = plain_file
