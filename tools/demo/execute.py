"""Run the demo's stages as processes of one thread each, as many at a time as there are cores."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from moca.engine.processes import Launch, Process, start
from moca.records.log_lines import last_iteration, losses, tail
from tools.demo.stages import Notes, Stage

POLL = 0.25
"""Seconds between looks at the running processes."""

PLAIN_INTERVAL = 20.0
"""Seconds between lines of progress where there is no terminal."""

SHOWN_LINES = 15
"""Lines of a failed stage's log that are printed."""

Say = Callable[..., None]
"""Prints a line after the time spent so far; takes ``style`` as well."""


class StageFailed(Exception):
    """A stage's process ended with an error; the message has the end of its log and its name."""


def minutes(seconds: float) -> str:
    """`3:05` for 185 seconds."""
    whole = max(0, round(seconds))
    return f'{whole // 60}:{whole % 60:02d}'


def launch(command: Sequence[str], log: Path) -> Process:
    """Start a tool with this interpreter, in one thread; its output goes to `log`."""
    threads = dict.fromkeys(('OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'OPENBLAS_NUM_THREADS'), '1')
    return start([sys.executable, *command], log, **threads)


def progress_bars(console: Console) -> Progress:
    """Bars with a note behind each, which vanish at the end; nothing where there is no terminal."""
    return Progress(
        TextColumn('{task.description}'),
        BarColumn(bar_width=28),
        TextColumn('{task.percentage:>3.0f} %'),
        TimeElapsedColumn(),
        TextColumn('{task.fields[note]}'),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


@dataclass
class _Running:
    stage: Stage
    process: Process
    log: Path
    bar: TaskID
    start: float
    share: float = 0.0
    text: str = 'starting'


def execute(
    notes: Notes,
    logs: Path,
    jobs: int,
    console: Console,
    say: Say,
    launch: Launch = launch,
    poll: float = POLL,
) -> None:
    """Run every stage that is not finished, in order as soon as its needs allow, `jobs` at a time.

    Raises:
        StageFailed: when a process fails; the others are ended and can be resumed.
    """
    pending = notes.pending()
    done = notes.stages.keys() - {stage.name for stage in pending}
    for name in notes.stages:
        if name in done:
            say(f'already done: {notes.stages[name].title}', style='dim')
    running: list[_Running] = []
    work = sum(stage.seconds for stage in pending)  # by the clock of another machine
    looked = told = time.monotonic()
    busy = 0.0
    with progress_bars(console) as bars:
        total = bars.add_task('[bold]all', total=work, note='')
        try:
            while pending or running:
                ready = [stage for stage in pending if done.issuperset(stage.needs)]
                for stage in ready[: jobs - len(running)]:
                    command = notes.begin(stage)
                    say(f'{stage.title}\n        $ python {shlex.join(command)}')
                    log = logs / f'{stage.name}.log'
                    bar = bars.add_task(stage.title, total=1.0, note='')
                    process = launch(command, log)
                    running.append(_Running(stage, process, log, bar, time.monotonic()))
                    pending.remove(stage)
                time.sleep(poll)
                for job in list(running):
                    if _ended(job):
                        seconds = time.monotonic() - job.start
                        notes.end(job.stage, seconds)
                        say(f'done: {job.stage.title} ({_report(job, seconds)})', style='green')
                        bars.remove_task(job.bar)
                        running.remove(job)
                        done.add(job.stage.name)
                    else:
                        bars.update(job.bar, completed=job.share, note=job.text)
                now = time.monotonic()
                busy, looked = busy + len(running) * (now - looked), now
                rest = sum(stage.seconds for stage in pending)
                rest += sum(job.stage.seconds * (1 - job.share) for job in running)
                note = f'about {minutes(time_left(work, rest, busy, jobs))} left'
                bars.update(total, completed=work - rest, note=note)
                if running and not console.is_terminal and now - told >= PLAIN_INTERVAL:
                    told = now
                    say('; '.join([*(f'{job.stage.title}: {job.text}' for job in running), note]))
        finally:
            for job in running:
                job.process.terminate()
            for job in running:
                job.process.wait(timeout=30)


def time_left(work: float, rest: float, busy: float, jobs: int) -> float:
    """Estimate how long the rest takes.

    Args:
        work: of all stages, in seconds of the machine where the demo was written.
        rest: what of it is still to be done.
        busy: seconds that processes have run here, all together.
        jobs: stages at a time.
    """
    # Until a tenth is done the start of the processes, which is no progress, weighs too much.
    pace = busy / (work - rest) if work - rest > 0.1 * work else 1.0
    return rest * pace / jobs


def _ended(job: _Running) -> bool:
    """Whether a process has ended well; notes its progress while it runs.

    Raises:
        StageFailed: if it failed, or left nothing.
    """
    code = job.process.poll()
    if code is None:
        if found := last_iteration(job.log):
            done, total, loss = found
            job.share, job.text = done / total, f'{done / total:.0%} loss {loss}'
        return False
    if code != 0 or not job.stage.output.is_file():
        why = f'exit code {code}' if code else f'it left no {job.stage.output}'
        end = '\n'.join('    ' + line for line in tail(job.log, 8_000).splitlines()[-SHOWN_LINES:])
        raise StageFailed(f'{job.stage.title} failed ({why}). The end of {job.log}:\n{end}')
    return True


def _report(job: _Running, seconds: float) -> str:
    """How long a stage took; its first and last logged loss say whether it learnt."""
    found = losses(job.log)
    fall = f', loss {found[0]:.3g} -> {found[-1]:.3g}' if len(found) > 1 else ''
    return f'{seconds:.0f} s{fall}'
