"""Run the demo's stages as processes of one thread each, as many at a time as there are cores."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from moca.engine.log_lines import last_iteration, losses, tail
from moca.engine.processes import Launch, Process, start
from tools.demo.stages import Stage, States

POLL = 0.25
"""Seconds between looks at the running processes."""

SHOWN_LINES = 15
"""Lines of a failed stage's log that are printed."""


class StageFailed(Exception):
    """A stage's process ended with an error; the message has the end of its log and its name."""


class Display(Protocol):
    """Where progress is shown; see `tools.demo.display`."""

    def started(self, stage: Stage, command: Sequence[str]) -> None: ...

    def advanced(self, stage: Stage, share: float, loss: str | None) -> None: ...

    def finished(self, stage: Stage, seconds: float, losses: list[float]) -> None: ...

    def skipped(self, stage: Stage) -> None: ...

    def left(self, seconds: float) -> None: ...


def launch(command: Sequence[str], log: Path) -> Process:
    """Start a tool with this interpreter, in one thread; its output goes to `log`."""
    threads = dict.fromkeys(('OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'OPENBLAS_NUM_THREADS'), '1')
    return start([sys.executable, *command], log, **threads)


@dataclass
class _Running:
    stage: Stage
    process: Process
    log: Path
    start: float
    share: float = 0.0
    # when and where its progress was first seen: before that it loads, which says nothing
    first: tuple[float, float] | None = None


def execute(
    states: States,
    logs: Path,
    jobs: int,
    display: Display,
    launch: Launch = launch,
    poll: float = POLL,
) -> None:
    """Run every stage that is not finished, in order as soon as its needs allow, `jobs` at a time.

    Raises:
        StageFailed: when a process fails; the others are ended and can be resumed.
    """
    pending = []
    done: set[str] = set()
    for stage in states.stages.values():
        if states.finished(stage):
            done.add(stage.name)
            display.skipped(stage)
        else:
            pending.append(stage)
    spent: dict[str, float] = {}
    running: list[_Running] = []
    try:
        while pending or running:
            for stage in _startable(pending, done, jobs - len(running)):
                running.append(_start(stage, states, logs, display, launch))
                pending.remove(stage)
            time.sleep(poll)
            for job in list(running):
                if _look(job, display):
                    running.remove(job)
                    done.add(job.stage.name)
                    spent[job.stage.name] = time.monotonic() - job.start
                    states.end(job.stage, spent[job.stage.name])
                    display.finished(job.stage, spent[job.stage.name], losses(job.log))
            pace = _pace(states, spent, running)
            left = {job.stage.name: _left(job, pace) for job in running}
            display.left(time_left(left, pending, done, jobs, pace))
    finally:
        for job in running:
            job.process.terminate()
        for job in running:
            job.process.wait(timeout=30)


def _startable(pending: Sequence[Stage], done: set[str], free: int) -> list[Stage]:
    """The first of the pending stages whose needs are done, as many as there are places."""
    return [stage for stage in pending if done.issuperset(stage.needs)][:free]


def _start(stage: Stage, states: States, logs: Path, display: Display, launch: Launch) -> _Running:
    command = states.begin(stage)
    log = logs / f'{stage.name}.log'
    display.started(stage, command)
    return _Running(stage, launch(command, log), log, time.monotonic())


def _look(job: _Running, display: Display) -> bool:
    """Whether a process has ended; its progress is shown while it runs."""
    code = job.process.poll()
    if code is None:
        found = last_iteration(job.log)
        if found:
            done, total, loss = found
            job.share = done / total
            job.first = job.first or (time.monotonic(), job.share)
            display.advanced(job.stage, job.share, loss)
        return False
    if code != 0 or not job.stage.output.is_file():
        why = f'exit code {code}' if code else f'it left no {job.stage.output}'
        end = '\n'.join('    ' + line for line in tail(job.log, 8_000).splitlines()[-SHOWN_LINES:])
        raise StageFailed(f'{job.stage.title} failed ({why}). The end of {job.log}:\n{end}')
    return True


def _pace(states: States, spent: dict[str, float], running: Sequence[_Running] = ()) -> float:
    """How much slower this machine is than expected, from what has been done so far."""
    usual = sum(states.stages[name].seconds for name in spent)
    usual += sum(job.stage.seconds * job.share for job in running)
    taken = sum(spent.values())
    taken += sum(time.monotonic() - job.start for job in running if job.share)
    return taken / usual if usual else 1.0


def _left(job: _Running, pace: float) -> float:
    """Seconds that a running stage will still take: from its own progress as soon as it tells."""
    elapsed = time.monotonic() - job.start
    if job.first and job.share > job.first[1]:
        since, share = job.first
        return (time.monotonic() - since) / (job.share - share) * (1 - job.share)
    return max(job.stage.seconds * pace - elapsed, 0.1 * job.stage.seconds)


def time_left(
    running: dict[str, float],
    pending: Sequence[Stage],
    done: set[str],
    jobs: int,
    pace: float = 1.0,
) -> float:
    """Play the rest of the work through, and return the seconds that it takes.

    Args:
        running: Seconds left of each running stage.
        pending: Stages not started, in order.
        done: Names of finished stages.
        jobs: How many run at a time.
        pace: By which the usual times of pending stages are multiplied.
    """
    running, pending, done = dict(running), list(pending), set(done)
    clock = 0.0
    while running or pending:
        for stage in _startable(pending, done, jobs - len(running)):
            running[stage.name] = stage.seconds * pace
            pending.remove(stage)
        if not running:
            break
        step = min(running.values())
        clock += step
        done |= {name for name, left in running.items() if left <= step}
        running = {name: left - step for name, left in running.items() if left > step}
    return clock
