"""Runs that get a signal at a random moment, and go on: they have to end as if nothing had been."""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from moca.engine.checkpoints import latest_checkpoint
from tests.campaign.campaign import Area, Outcome
from tests.campaign.promises import (
    Fault,
    check_left,
    check_other,
    check_queue_signal,
    check_same,
    check_signal,
    differing,
    steps_of,
)
from tests.campaign.tiny_runs import KINDS, STEPS, Kind, run_folders, starts
from tests.campaign.tool_runs import ALL, PRETRAINING, Ended, Moment, Start, run

Draw = random.Random
PHASES = ('start-up', 'step', 'checkpoint', 'validation', 'log', 'record', 'end')
SIGNALS = (*[signal.SIGKILL] * 4, signal.SIGTERM, signal.SIGINT)
"""Two in three are kills."""

FILES = ('queue.log', 'run.json', 'iter_2.pth', 'iter_4.pth', 'iter_6.pth')
"""What a queue's run writes in turn, which its queue does not see."""

TRIES = 5
"""So often is the moment of a signal drawn, until one comes before the run has ended."""

BEFORE: Callable[[Start], None] | None = None
"""What each process does first; an injected fault."""


class Reference:
    """A run that nothing happens to, made once for each kind by each process of a campaign.

    Attributes:
        told: What the tool was told.
        runs: Its work dirs by their paths below the folder that the tool was run in.
        counts: Of its events by phase.
    """

    made: dict[str, Reference] = {}  # noqa: RUF012  (shared by all cases on purpose)

    def __init__(self, kind: Kind, folder: Path, modules: Sequence[str]) -> None:
        shutil.rmtree(folder, ignore_errors=True)  # of a process that has ended
        folder.mkdir(parents=True)
        self.told = kind.write(folder)
        ended = run(*starts(kind, self.told, folder), modules=modules)
        if any(each.code for each in ended):
            raise RuntimeError(f'{kind.name}: {ended}')
        self.runs = {path.relative_to(folder): path for path in run_folders(kind, folder)}
        self.counts = counts_of(ended[0])

    @classmethod
    def of(cls, kind: Kind, scratch: Path, modules: Sequence[str]) -> Reference:
        """The one of a kind."""
        folder = scratch / 'whole' / kind.name.replace(' ', '_')
        if str(folder) not in cls.made:
            cls.made[str(folder)] = cls(kind, folder, modules)
        return cls.made[str(folder)]

    @property
    def run(self) -> Path:
        """The work dir of a tool that has one."""
        (folder,) = self.runs.values()
        return folder


def counts_of(ended: Ended) -> dict[str, int]:
    """How many events of each phase a process had."""
    phases = [event.split(' ')[0] for event in ended.events]
    return {phase: phases.count(phase) for phase in PHASES if phase in phases}


def go_on(
    kind: Kind, told: list[str], folder: Path, modules: Sequence[str], **fields: Any
) -> list[Ended]:
    """Let a run go on to its end.

    Raises:
        Fault: It does not.
    """
    found = run(*starts(kind, told, folder, **fields), modules=modules)
    for ended in found:
        if ended.code or ended.orphans:
            raise Fault('does not go on', f'exit {ended.code}: {ended.said[-2000:]}')
    return found


def draw_moment(draw: Draw, counts: dict[str, int], runs: Sequence[Path] = ()) -> Moment:
    """A phase, one of its events, and for every other some time that passes after it.

    Args:
        draw: Source of randomness.
        counts: Of events that there will be.
        runs: Work dirs of a queue's runs: for every other moment one of their files is waited for.
    """
    number = draw.choice(SIGNALS)
    if runs and draw.random() < 0.5:
        path, delay = draw.choice(runs) / draw.choice(FILES), draw.uniform(0, 2)
        return Moment('file', 1, delay, number, path, to_group=_of_all(draw, number))
    phase = draw.choice(sorted(counts))
    count = draw.randint(1, counts[phase])
    delay = draw.choice((0.0, draw.uniform(0.001, 0.02)))
    to_group = bool(runs) and _of_all(draw, number)
    return Moment(phase, count, delay, number, to_group=to_group)


def _of_all(draw: Draw, number: int) -> bool:
    """Ctrl-C goes to all processes of a terminal, and so may a kill; SIGTERM goes to one."""
    return number == signal.SIGINT or (number == signal.SIGKILL and draw.random() < 0.5)


@dataclass
class _Case:
    """A run of a kind in a folder, which may have got signals before."""

    kind: Kind
    reference: Reference
    folder: Path
    modules: Sequence[str]

    def interrupt(self, draw: Draw) -> Moment | None:
        """Let the run get a signal, at a moment that is drawn again where none came.

        Returns:
            The moment; None if the run had nothing left to do.

        Raises:
            Fault: Something is not as promised.
        """
        before, counts = self.newest(), self.reference.counts
        kept = self.folder.with_name(f'{self.folder.name}_kept')
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(self.folder, kept, symlinks=True)
        for attempt in range(TRIES):
            victim = draw.randrange(self.kind.processes)
            runs = [self.folder / run for run in self.reference.runs]
            moment = draw_moment(draw, counts, runs if self.kind.is_queue else ())
            if attempt:  # counted in the events of this very run, and none lies behind its end
                moment = replace(moment, delay=0.0)
            moments = {victim: moment}
            told = self.reference.told
            ended = run(
                *starts(self.kind, told, self.folder, moments=moments, before=BEFORE),
                modules=self.modules,
            )
            if ended[victim].signaled:
                shutil.rmtree(kept)
                self._check(moment, victim, before, ended)
                return moment
            if any(each.code or each.orphans for each in ended):
                raise Fault('traceback', f'without a signal: {ended}')
            if not (counts := counts_of(ended[victim])):
                shutil.rmtree(kept)
                return None
            shutil.rmtree(self.folder)
            shutil.copytree(kept, self.folder, symlinks=True)
        raise Fault('no signal', f'{TRIES} times, the last was due at {moment}')

    def newest(self) -> dict[Path, int]:
        """The step of the newest checkpoint of each work dir that is there, 0 for none."""
        paths = run_folders(self.kind, self.folder)
        return {path: steps_of(latest_checkpoint(path)) for path in paths}

    def _check(
        self, moment: Moment, victim: int, before: dict[Path, int], ended: list[Ended]
    ) -> None:
        if late := [each.orphans for each in ended if each.orphans]:
            raise Fault('orphan', late)
        first = self.folder / 'run'
        alone = self.kind.processes == 1
        if self.kind.is_queue:
            runs = [self.folder / run for run in self.reference.runs]
            check_queue_signal(moment, runs, ended[victim])
        else:
            check_signal(moment, before.get(first, 0), first, ended[victim], alone)
        for rank, other in enumerate(ended):
            if rank != victim:
                check_other(victim, ended[victim], other)
        for path in run_folders(self.kind, self.folder):
            check_left(path, before.get(path, 0), ended[0])
        if not self.kind.exact and not before.get(first):
            self._check_first(first)

    def _check_first(self, folder: Path) -> None:
        """Until it is interrupted for the first time, a run is as any other of its kind."""
        newest = latest_checkpoint(folder) if folder.is_dir() else None
        whole = self.reference.run / newest.name if newest else folder
        if newest and whole.is_file():
            states = (
                torch.load(path, weights_only=False)['state_dict'] for path in (newest, whole)
            )
            if different := list(differing(*states)):
                raise Fault('differs', [newest.name, different[:5]])


class Kills(Area):
    """Signals in the middle of runs of every kind."""

    name = 'kills'
    title = 'Kills'
    seconds = 900.0
    modules = ALL
    proofs = (('mae', 'unreadable'),)

    def count(self, quick: bool) -> int:
        """Some eight of each kind of run, one signal or two each; a pre-training with ``quick``."""
        self.modules = PRETRAINING if quick else ALL
        return 1 if quick else 8 * len(KINDS)

    def run(self, number: int, folder: Path) -> Outcome:
        """A run that gets a signal, once or in its resumption as well, and then goes on."""
        folder, kind = folder.resolve(), KINDS[number % len(KINDS)]
        draw = random.Random(f'{self.seed} {number}')
        reference = Reference.of(kind, folder.parent, self.modules)
        case = _Case(kind, reference, folder, self.modules)
        told: list[str] = []
        alike = STEPS
        try:
            for _ in range(draw.choice((1, 1, 2))):
                if (moment := case.interrupt(draw)) is None:
                    break
                told.append(str(moment))
                if not kind.exact:  # from random weights, anything starts again as it has
                    alike = min([alike, *filter(None, case.newest().values())])
            go_on(kind, reference.told, folder, self.modules)
            for run_folder, whole in reference.runs.items():
                check_same(folder / run_folder, whole, alike)
        except Fault as fault:
            return Outcome(kind.name, fault.args[0], f'after {told}: {fault.args[1]}')
        return Outcome(kind.name, 'equal' if alike == STEPS else 'accepted', ', '.join(told))

    def inject(self) -> None:
        """Checkpoints are written where they are to be read, and slowly."""
        globals().update(
            BEFORE=write_in_place, draw_moment=lambda *args: Moment('checkpoint', 2, 0.1)
        )


def write_in_place(start: Start) -> None:
    """Have checkpoints be written without a partial file."""
    from moca.engine import checkpoints

    @contextlib.contextmanager
    def plain_file(path: str | Path) -> Iterator[Any]:
        with Path(path).open('wb') as file:
            time.sleep(0.5)  # in which the signal comes
            yield file

    checkpoints.atomic_file = plain_file
