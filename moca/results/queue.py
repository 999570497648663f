"""Runs of a tool, one or several at a time; what is finished is not run again."""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Protocol, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from moca.engine.processes import Launch, Process, sigterm_noted
from moca.engine.work_dir import InUse
from moca.records.log_lines import last_iteration, tail
from moca.results.claims import CLAIM, Claims

LOG = 'queue.log'
"""What a run prints, in its work dir."""

POLL = 1.0
"""Seconds between looks at the running processes."""

# The last line of a traceback, with what torch puts before it.
_PYTHONS = re.compile(r'(\[rank\d+\]: )?[\w.]*(Error|Exception|Interrupt)\b')
_TORCHRUNS = 'ChildFailedError'
_FINISHED, _FAILED, _SKIPPED = 'finished', 'failed', 'was finished before'


@dataclass(frozen=True)
class Run(ABC):
    """One run of a tool.

    Attributes:
        title: what it is, to be read.
        folder: its work dir.
        arguments: of the tool.
    """

    title: str
    folder: Path
    arguments: tuple[str, ...]

    @property
    @abstractmethod
    def finished(self) -> bool:
        """Whether its result is there."""

    @property
    def needs(self) -> tuple[Path, ...]:
        """Work dirs of the runs that have to be finished before it starts."""
        return ()


AnyRun = TypeVar('AnyRun', bound=Run)


class Claim(Protocol):
    """What a pool asks right before it starts a run."""

    def __call__(self, run: Run, watched: bool = False) -> bool:
        """Whether this queue may start a run.

        Args:
            run: The run, which is this queue's from now on.
            watched: Only whether no other queue is at work on it, and one that goes on already, as
                a job that this pool finds, may be watched.
        """


def always(run: Run, watched: bool = False) -> bool:
    """The `Claim` of a queue without others."""
    return True


class Pool(Protocol):
    """Where runs are worked off: on this machine (`Here`), or on a cluster."""

    def start(
        self, waiting: Sequence[Run], busy: Collection[Path], claim: Claim = always
    ) -> list[tuple[Run, Process]]:
        """Start what there is room for.

        Args:
            waiting: What is to be started, in this order.
            busy: Work dirs of the runs that were started and go on.
            claim: Leaves out what another queue or run is at work on.

        Returns:
            What was started.
        """

    def text(self, process: Process) -> str:
        """What is known of a run that has logged no step yet; nothing of one not to be shown."""

    def leave(self) -> None:
        """Leave off before all runs are over."""


class Here:
    """Processes of this machine.

    Args:
        launches: How runs are started, one for each that goes on at a time.
    """

    def __init__(self, launches: Sequence[Launch]) -> None:
        self._launches = launches
        self._processes: dict[int, Process] = {}  # by place in the launches

    def start(
        self, waiting: Sequence[Run], busy: Collection[Path], claim: Claim = always
    ) -> list[tuple[Run, Process]]:
        """Start runs whose needs are met in the places that are free."""
        pending = {*busy, *(run.folder for run in waiting)}
        ready = iter([run for run in waiting if not pending & set(run.needs)])
        started = []
        for place, launch in enumerate(self._launches):
            process = self._processes.get(place)
            if process is not None and process.poll() is None:
                continue
            if (run := next(filter(claim, ready), None)) is not None:
                self._processes[place] = launch(run.arguments, run.folder / LOG)
                started.append((run, self._processes[place]))
        return started

    def text(self, process: Process) -> str:
        """Of any process, which loads something before its first step."""
        return 'starting'

    def leave(self) -> None:
        """End the processes: all are told before one is waited for."""
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            with suppress(TimeoutExpired):
                process.wait(timeout=60)
                continue
            print('A run is still saving; waiting for it (Ctrl-C ends the wait).', flush=True)
            process.wait()


@dataclass
class _Started:
    """A run that goes on, with its number in the queue and its line on the screen."""

    job: Run
    process: Process
    bar: TaskID


def run_jobs(
    jobs: Sequence[AnyRun], pool: Pool, console: Console, poll: float = POLL
) -> dict[str, list[AnyRun]]:
    """Run what has no result yet; a failure stops only what needs its result.

    A run that was interrupted resumes from its newest checkpoint. Its output is ``queue.log`` in
    its work dir. What another queue is at work on, or a run that has outlived its queue, is waited
    for, while the others go on.

    Returns:
        Jobs by outcome, in their order: ``finished``, ``failed``, ``was finished before``.
    """
    known: dict[Path, str] = {}  # outcomes
    names = {job.folder: f'[{n}/{len(jobs)}] {job.title}' for n, job in enumerate(jobs, start=1)}

    def say(job: Run, text: str, style: str | None = None) -> None:
        line = f'{names[job.folder]}: {text}'
        console.print(line, style=style, markup=False, soft_wrap=True)

    def ended(job: Run, problem: str | None) -> None:
        known[job.folder] = _FAILED if problem else _FINISHED
        claims.give_back(job.folder)
        say(job, f'{_FAILED}: {problem}' if problem else _FINISHED, 'red' if problem else None)

    def skipped(job: Run) -> None:
        known[job.folder] = _SKIPPED
        say(job, f'{_SKIPPED} ({job.folder})')

    waiting: list[Run] = []
    for job in jobs:
        if job.finished:
            skipped(job)
        else:
            waiting.append(job)
    running: list[_Started] = []
    claims = Claims()

    def claim(run: Run, watched: bool = False) -> bool:
        try:
            claims.take(run.folder)
            if not watched:
                claims.check_idle(run.folder)
        except InUse as error:
            if claims.is_news(run.folder):
                say(run, f'{error}; this queue waits for its end')
            return False
        except OSError as error:
            waiting.remove(run)
            ended(
                run,
                f'{run.folder}: nothing can be written there ({error.strerror}). Give another '
                '--work-dir.',
            )
            return False
        if run.finished:  # by that queue
            claims.give_back(run.folder)
            waiting.remove(run)
            skipped(run)
        return run in waiting

    with (
        claims,
        sigterm_noted() as leave_if_told,
        _progress(console) as progress,
        _left_off(pool),
    ):
        while waiting or running:
            for run in [run for run in waiting if _failed_need(run, known)]:
                waiting.remove(run)
                ended(run, f'not started, since {_failed_need(run, known)} has failed')
            busy = [each.job.folder for each in running]
            for run, process in pool.start([*waiting], busy, claim):
                waiting.remove(run)
                say(run, str(run.folder / LOG))
                running.append(_Started(run, process, progress.add_task('', total=None)))
            for each in list(running):
                code = each.process.poll()
                if code is None:
                    _show(progress, each, pool)
                else:
                    running.remove(each)
                    progress.remove_task(each.bar)
                    leave_if_told()  # what it was told as well, and no failure
                    ended(each.job, _problem(each.job, code))
            leave_if_told()
            if running or waiting:
                time.sleep(poll)
    outcomes = (_FINISHED, _FAILED, _SKIPPED)
    return {each: [job for job in jobs if known[job.folder] == each] for each in outcomes}


def _failed_need(job: Run, known: dict[Path, str]) -> Path | None:
    return next((need for need in job.needs if known.get(need) == _FAILED), None)


@contextmanager
def _left_off(pool: Pool) -> Iterator[None]:
    try:
        yield
    except BaseException:
        pool.leave()
        raise


def _problem(job: Run, code: int) -> str | None:
    """What went wrong in a run that is over."""
    log = job.folder / LOG
    if not job.finished and not log.is_file():
        if not (job.folder / CLAIM).is_file():
            return f'its folder was removed or emptied while it ran ({job.folder})'
        return f'exit code {code}, and nothing was printed to {log}'
    if code == 0:
        return None if job.finished else f'ended without its result (see {log})'
    # torchrun writes a block of its own below the processes', with an error of its own
    lines = [line for line in tail(log, 64_000).splitlines()[::-1] if _TORCHRUNS not in line]
    ours = (line for line in lines if line.startswith('error: '))
    said = next(ours, '') or next((line for line in lines if _PYTHONS.match(line)), '')
    return f'{said or f"exit code {code}"} (see {log})'


def _progress(console: Console) -> Progress:
    """A line for each run that goes on, which vanishes with it."""
    columns = (TextColumn('  {task.description}'), BarColumn(bar_width=28), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True)


def _show(progress: Progress, each: _Started, pool: Pool) -> None:
    """Show how a run comes along."""
    text = pool.text(each.process)
    done, total = 0, None
    if found := last_iteration(each.job.folder / LOG):
        done, total, loss = found
        text = f'step {done} of {total}, loss {loss}'
    line = f'{each.job.title}: {text}'
    progress.update(each.bar, completed=done, total=total, description=line, visible=bool(text))
