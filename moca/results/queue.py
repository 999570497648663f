"""Runs of a tool, one after the other; what is finished is not run again."""

from __future__ import annotations

import re
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from moca.engine.log_lines import last_iteration, tail
from moca.engine.processes import Launch, Process, sigterm_noted, start

LOG = 'queue.log'
"""What a run prints, in its work dir."""

POLL = 1.0
"""Seconds between looks at the running process."""

_TOOLS = Path(__file__).parents[2] / 'tools'
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


AnyRun = TypeVar('AnyRun', bound=Run)


def launcher(tool: str, kind: str, gpus: int) -> Launch:
    """How runs of `tools/TOOL` are started: by this interpreter, by torchrun or by srun."""
    command = {
        'none': [sys.executable],
        'pytorch': [
            *(sys.executable, '-m', 'torch.distributed.run', '--standalone'),
            f'--nproc_per_node={gpus}',
        ],
        'slurm': [
            *('srun', '--kill-on-bad-exit=1', f'--ntasks={gpus}', f'--gres=gpu:{gpus}'),
            sys.executable,
        ],
    }[kind]
    suffix = [] if kind == 'none' else ['--launcher', kind]

    def launch(arguments: Sequence[str], log: Path) -> Process:
        return start([*command, str(_TOOLS / tool), *arguments, *suffix], log)

    return launch


def run_jobs(
    jobs: Sequence[AnyRun], launch: Launch, console: Console, poll: float = POLL
) -> dict[str, list[AnyRun]]:
    """Run what has no result yet, one after the other; a failure does not stop the rest.

    A run that was interrupted resumes from its newest checkpoint. Its output is ``queue.log`` in
    its work dir.

    Returns:
        Jobs by outcome: ``finished``, ``failed``, ``was finished before``.
    """
    outcomes: dict[str, list[AnyRun]] = {_FINISHED: [], _FAILED: [], _SKIPPED: []}
    for number, job in enumerate(jobs, start=1):
        where = f'[{number}/{len(jobs)}] {job.title}'
        if job.finished:
            outcomes[_SKIPPED].append(job)
            console.print(f'{where}: {_SKIPPED} ({job.folder})', markup=False, soft_wrap=True)
            continue
        console.print(f'{where}: {job.folder / LOG}', markup=False, soft_wrap=True)
        problem = _run(job, launch, console, poll)
        outcomes[_FAILED if problem else _FINISHED].append(job)
        if problem:
            console.print(f'  failed: {problem}', style='red', markup=False, soft_wrap=True)
    return outcomes


def _run(job: Run, launch: Launch, console: Console, poll: float) -> str | None:
    """Run one job to its end; returns what went wrong."""
    log = job.folder / LOG
    with sigterm_noted() as leave_if_told:
        code = _wait(launch(job.arguments, log), log, console, poll, leave_if_told)
        leave_if_told()
    if code == 0:
        return None if job.finished else f'ended without its result (see {log})'
    # torchrun writes a block of its own below the processes', with an error of its own
    lines = [line for line in tail(log, 64_000).splitlines()[::-1] if _TORCHRUNS not in line]
    ours = (line for line in lines if line.startswith('error: '))
    said = next(ours, '') or next((line for line in lines if _PYTHONS.match(line)), '')
    return f'{said or f"exit code {code}"} (see {log})'


def _wait(
    process: Process, log: Path, console: Console, poll: float, leave_if_told: Callable[[], None]
) -> int:
    """Show how a process comes along until it ends; returns its exit status."""
    columns = (TextColumn('  {task.description}'), BarColumn(bar_width=28), TimeElapsedColumn())
    try:
        with Progress(*columns, console=console, transient=True) as progress:
            bar = progress.add_task('starting', total=None)
            while (code := process.poll()) is None:
                leave_if_told()
                if found := last_iteration(log):
                    done, total, loss = found
                    text = f'step {done} of {total}, loss {loss}'
                    progress.update(bar, completed=done, total=total, description=text)
                time.sleep(poll)
    except BaseException:
        process.terminate()
        process.wait(timeout=60)
        raise
    return code
