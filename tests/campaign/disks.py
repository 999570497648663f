"""Disks that are full, read-only, slow or gone, in the middle of runs: what is there stays."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from moca.engine.checkpoints import latest_checkpoint
from tests.campaign.campaign import SKIPPED, Area, Outcome
from tests.campaign.kills import Reference, go_on
from tests.campaign.promises import Fault, check_left, check_same, steps_of
from tests.campaign.tiny_runs import KINDS, STEPS, Kind, starts
from tests.campaign.tool_runs import ALL, PRETRAINING, Ended, Start, on_writes, phase_of, run

Draw = random.Random
_KINDS = {kind.name: kind for kind in KINDS}


def full_within(start: Start, phase: str, count: int, size: int) -> None:
    """From a file of a phase on (counted from 1), files take so many bytes more than that one has.

    The system cuts the write off that goes beyond, and refuses the next one (EFBIG: Python ignores
    the signal that comes with it).
    """
    seen = 0

    def limit(action: str, path: Path) -> None:
        nonlocal seen
        if action != 'open' or phase_of(path) != phase:
            return
        seen += 1
        if seen == count:
            there = path.stat().st_size if path.exists() else 0
            resource.setrlimit(resource.RLIMIT_FSIZE, (there + size, resource.RLIM_INFINITY))

    on_writes(start.work_dir, limit)


def full(start: Start, phase: str, count: int, number: int) -> None:
    """From a write of a phase on (counted from 1), each fails with an error of the system."""
    seen = 0

    def refuse(action: str, path: Path) -> None:
        nonlocal seen
        if action == 'remove' or phase not in (phase_of(path), 'any'):
            return
        seen += 1
        if seen >= count:
            raise OSError(number, os.strerror(number), str(path))

    on_writes(start.work_dir, refuse)


def slow(start: Start) -> None:
    """Each write of a checkpoint takes longer than a step."""

    def wait(action: str, path: Path) -> None:
        if phase_of(path) == 'checkpoint':
            time.sleep(0.3)

    on_writes(start.work_dir, wait)


def vanish(start: Start, data: str, step: int) -> None:
    """The folder of the data is gone before a step (from 1)."""
    from mmengine.runner import Runner

    call = Runner.call_hook

    def call_hook(self: Any, fn_name: str, **kwargs: Any) -> None:
        if fn_name == 'before_train_iter' and self.iter + 1 == step:
            os.rename(data, f'{data}_gone')
        call(self, fn_name, **kwargs)

    Runner.call_hook = call_hook


class NotAllowedError(Exception):
    """This system does not let a case be made."""


SMALL = 'a file system that is too small'
"""A kind of misfortune."""

_ROOM = 1 << 30  # bytes of such a file system, once it has been made larger


@contextlib.contextmanager
def small_file_system(folder: Path, size: int) -> Iterator[Callable[[], None]]:
    """Mount a file system of so many bytes in memory; yields what makes it larger.

    Raises:
        NotAllowedError: That is not allowed here.
    """
    folder.mkdir()

    def mount(*options: str) -> None:
        command = ['mount', '-t', 'tmpfs', *options, 'tmpfs', str(folder)]
        if subprocess.run(command, capture_output=True).returncode:
            raise NotAllowedError('mounting is not allowed here')

    mount('-o', f'size={size}')
    try:
        yield lambda: mount('-o', f'remount,size={_ROOM}')
    finally:
        subprocess.run(['umount', '--lazy', str(folder)], check=True)


# What befalls which kind of run, and whether the run has to end by it.
Misfortune = tuple[str, str, bool]
MISFORTUNES: tuple[Misfortune, ...] = tuple(
    (kind, name, ends)
    for name, ends in (
        ('full within a checkpoint', True),
        ('full within a log', True),
        (SMALL, True),
        ('data gone', True),
        ('full at a checkpoint', True),
        ('full at a log', True),
        ('read-only', True),
        ('slow', False),
        ('full within run.json', True),
        ('full at run.json', True),
    )
    for kind in ('mae', 'linear probe')
    if not (name.endswith('run.json') and kind == 'mae')  # which has none
)


def with_own_data(told: list[str], folder: Path) -> tuple[list[str], Path]:
    """Copy the data of a run, which may then be taken away; returns what the tool is to be told."""
    place = told.index('--data-root') + 1
    own = folder / 'own_data'
    shutil.copytree(told[place], own)
    return [*told[:place], str(own), *told[place + 1 :]], own


def misfortune_of(
    name: str, draw: Draw, reference: Reference, data: Path
) -> tuple[Callable[..., None], Any]:
    """What is to happen: a function and its arguments."""
    size, record = checkpoint_size(reference), reference.run / 'run.json'
    least = record.stat().st_size // 4 if record.is_file() else 1  # less than it has at first
    error = draw.choice((errno.ENOSPC, errno.EDQUOT, errno.EIO))
    return {
        # of six files the last but one is the last checkpoint; the others are notes of them
        'full within a checkpoint': (
            full_within,
            ('checkpoint', draw.randint(1, 5), draw.randint(size // 10, size - 1)),
        ),
        # less than a line has
        'full within a log': (full_within, ('log', draw.randint(1, STEPS), draw.randint(0, 60))),
        'full within run.json': (full_within, ('record', 1, draw.randint(1, least))),
        'full at a checkpoint': (full, ('checkpoint', draw.randint(1, 9), error)),
        'full at a log': (full, ('log', draw.randint(1, 9), error)),
        'full at run.json': (full, ('record', draw.randint(1, 3), error)),
        'read-only': (full, ('any', 1, errno.EROFS)),
        'slow': (slow, ()),
        # three checkpoints are there at once, and logs beside them
        SMALL: (elsewhere, (draw.randint(size // 10, 3 * size),)),
        'data gone': (vanish, (str(data), draw.randint(1, STEPS))),
    }[name]


def elsewhere(start: Start, *given: object) -> None:
    """What a process does first if the misfortune is not of its own making."""


def checkpoint_size(reference: Reference) -> int:
    """Bytes of a checkpoint."""
    return (reference.run / f'iter_{STEPS}.pth').stat().st_size


def check_end(ended: Ended, folder: Path) -> None:
    """Hold what a process has said against what is promised: one line, a place and a remedy.

    Raises:
        Fault: It is not as promised.
    """
    lines = [line for line in ended.said.splitlines() if line.strip()]
    if ended.code != 2 or 'Traceback' in ended.said:
        raise Fault(
            'silent' if ended.code == 0 else 'traceback', f'exit {ended.code}: {ended.said[-2500:]}'
        )
    errors = [line for line in lines if line.startswith('error: ')]
    if len(errors) != 1 or str(folder) not in errors[0]:
        raise Fault('unnamed', lines[-5:])


class Disks(Area):
    """What disks do to runs."""

    name = 'disks'
    title = 'Disks'
    seconds = 600.0
    modules = ALL
    proofs = (('full within a checkpoint, mae', 'silent'),)

    def count(self, quick: bool) -> int:
        """Each misfortune three times; one of them with ``quick``."""
        self.modules = PRETRAINING if quick else ALL
        return 1 if quick else 3 * len(MISFORTUNES)

    def run(self, number: int, folder: Path) -> Outcome:
        """A run that a disk fails, and which goes on when it has been mended."""
        # the first of those that ``quick`` runs are of pre-training, whose imports take less long
        ordered = sorted(MISFORTUNES, key=lambda each: each[0] != 'mae')
        folder = folder.resolve()
        name, what, ends = ordered[number % len(ordered)]
        kind, draw = _KINDS[name], random.Random(f'{self.seed} {number}')
        reference = Reference.of(kind, folder.parent, self.modules)
        told, data = with_own_data(reference.told, folder)
        before, given = misfortune_of(what, draw, reference, data)
        label = f'{what}, {name}'
        small = small_file_system(folder / 'run', *given) if what == SMALL else None
        try:
            with small or contextlib.nullcontext(lambda: None) as make_room:
                newest = self._befall(kind, told, folder, ends, before=before, given=given)
                make_room()
                if (gone := data.with_name(f'{data.name}_gone')).is_dir():
                    gone.rename(data)
                go_on(kind, told, folder, self.modules)
                check_same(folder / 'run', reference.run, STEPS if kind.exact else newest or STEPS)
        except NotAllowedError as error:
            return Outcome(label, SKIPPED, str(error))
        except Fault as fault:
            return Outcome(label, fault.args[0], f'{given}: {fault.args[1]}')
        return Outcome(label, 'refused' if ends else 'equal', str(given))

    def _befall(
        self, kind: Kind, told: list[str], folder: Path, ends: bool, **misfortune: Any
    ) -> int:
        """Run until the misfortune; returns the step of the newest checkpoint, 0 for none."""
        (ended,) = run(*starts(kind, told, folder, piped=True, **misfortune), modules=self.modules)
        if ends:
            check_end(ended, folder)
        elif ended.code:
            raise Fault('traceback', f'exit {ended.code}: {ended.said[-2000:]}')
        if not (folder / 'run').is_dir():
            return 0
        check_left(folder / 'run', 0, ended)
        if partial := [path.name for path in folder.rglob('.*.partial')]:
            raise Fault('partial', partial)
        return steps_of(latest_checkpoint(folder / 'run'))

    def inject(self) -> None:
        """What the disk refuses is not told."""
        globals()['misfortune_of'] = lambda *args: (swallow, ())


def swallow(start: Start) -> None:
    """A disk without room, and a writer that says nothing of it."""
    from moca.engine.background import BackgroundJob

    full(start, 'checkpoint', 1, errno.ENOSPC)
    BackgroundJob.wait = lambda self: None  # type: ignore[method-assign]
    BackgroundJob.check = lambda self: None  # type: ignore[method-assign]
