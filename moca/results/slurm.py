"""Runs of a queue as jobs of a SLURM cluster, submitted by submitit (``pip install moca[slurm]``).

Runs that need no other are one job array, those that need the same runs another one, which SLURM
starts when these are finished. Jobs do not need the queue: it only watches them. A job that is
preempted, or about to meet its time limit, puts itself back in SLURM's queue, and its run goes on
from its newest checkpoint.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from moca.engine.checkpoints import write_atomically
from moca.engine.processes import Process
from moca.errors import UserError
from moca.results.queue import LOG, Claim, Run, always
from moca.results.slurm_task import ToolRun

NOTE = 'slurm.json'
"""In the folder of a run that was submitted: its job."""

POLL = 5.0
"""Seconds between looks at the jobs' folders; submitit asks sacct far less often."""

TIMEOUTS = 10
"""How often a job puts itself back after meeting its time limit; ours, submitit has 3."""

_AGAIN = 3
"""How often a job that SLURM has taken away is submitted anew; ours."""

_LOST = 3600.0
"""Seconds after which a job that SLURM does not know, or knows no more, is taken for gone; ours."""

# https://slurm.schedmd.com/sacct.html, "JOB STATE CODES"
_TAKEN = {'PREEMPTED', 'NODE_FAIL', 'BOOT_FAIL', 'TIMEOUT', 'REVOKED'}
_OVER = {*_TAKEN, 'COMPLETED', 'FAILED', 'CANCELLED', 'OUT_OF_MEMORY', 'DEADLINE', 'LAUNCH_FAILED'}


def check_cluster() -> None:
    """Verify that jobs can be submitted and watched from here.

    Raises:
        UserError: submitit or a program of SLURM's is missing.
    """
    if importlib.util.find_spec('submitit') is None:
        raise UserError("--on slurm: install its package: pip install 'moca[slurm]' (submitit)")
    missing = [name for name in ('sbatch', 'srun', 'sacct') if shutil.which(name) is None]
    if missing:
        raise UserError(
            f'--on slurm: {", ".join(missing)} not found. Start the queue on a login node of the '
            'cluster; sacct needs the accounting that most clusters have.'
        )


def minutes(text: str) -> int:
    """A time limit as sbatch takes it, in whole minutes, rounded up.

    Raises:
        UserError: It is none.

    Example:
        >>> minutes('90'), minutes('2:30:00'), minutes('1-12'), minutes('0:30')
        (90, 150, 2160, 1)
    """
    found = re.fullmatch(r'(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?', text)
    if found is None:
        raise UserError(f'--time {text}: give minutes, HOURS:MINUTES:SECONDS or DAYS-HOURS.')
    days, *parts = found.groups()
    numbers = [int(part) for part in parts if part is not None]
    if days is None and len(numbers) < 3:  # minutes, or minutes and seconds
        numbers.insert(0, 0)
    hours, whole, seconds = [*numbers, 0, 0][:3]
    total = ((int(days or 0) * 24 + hours) * 60 + whole) * 60 + seconds
    if not total:
        raise UserError(f'--time {text}: no time at all. Give a minute or more.')
    return -(-total // 60)


def extra_options(words: Sequence[str]) -> dict[str, str | bool]:
    """Options of sbatch from ``NAME=VALUE`` and ``NAME``, named as submitit names them.

    Raises:
        UserError: One has no name.

    Example:
        >>> extra_options(['qos=high', '--mem-per-cpu=4G', 'exclusive'])
        {'qos': 'high', 'mem_per_cpu': '4G', 'exclusive': True}
    """
    found: dict[str, str | bool] = {}
    for word in words:
        name, equals, value = word.lstrip('-').partition('=')
        if not name:
            raise UserError(f'--sbatch {word}: give NAME=VALUE, such as qos=high, or a NAME.')
        found[name.replace('-', '_')] = value if equals else True
    return found


def groups(runs: Sequence[Run]) -> dict[tuple[Path, ...], list[Run]]:
    """Runs by those of the others that they need, each group behind what it needs.

    Args:
        runs: Each behind those that it needs.
    """
    here = {run.folder for run in runs}
    found: dict[tuple[Path, ...], list[Run]] = {}
    for run in runs:
        found.setdefault(tuple(need for need in run.needs if need in here), []).append(run)
    return found


def submission(
    number: int,
    parameters: Mapping[str, Any],
    needs: Sequence[str] = (),
    at_once: int | None = None,
) -> str:
    """The call of sbatch that a group of runs amounts to, to be read.

    Args:
        number: Of runs.
        parameters: See `Cluster`.
        needs: Titles of the runs that they wait for.
        at_once: How many may run at a time.
    """
    words = ['sbatch']
    if number > 1:
        words.append(f'--array=0-{number - 1}' + (f'%{at_once}' if at_once else ''))
    if needs:
        words.append(f'--dependency=afterok:({"; ".join(needs)})')
    options = {**parameters, **(parameters.get('additional_parameters') or {})}
    for name, value in options.items():
        if name in ('additional_parameters', 'array_parallelism', 'stderr_to_stdout'):
            continue
        option = '--' + name.replace('_', '-')
        words.append(option if value is True else f'{option}={value}')
    return ' '.join(words)


class Cluster:
    """A pool of `moca.results.queue` that submits all at once and leaves the waiting to SLURM.

    Args:
        command: What a run is started by, in front of its arguments.
        folder: For what submitit writes; all machines must see it.
        parameters: Of submitit's executor: ``partition``, ``time`` (minutes), ``gres``,
            ``ntasks_per_node`` ...
        console: Where resubmissions are told.
    """

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        parameters: Mapping[str, Any],
        console: Console,
    ) -> None:
        from submitit import SlurmExecutor  # an extra

        self._command = tuple(command)
        self._folder = folder
        self._parameters = dict(parameters)
        self._console = console
        self._executor = SlurmExecutor(folder, max_num_timeout=TIMEOUTS)
        self._watched: dict[Path, _Watched] = {}

    def start(
        self, waiting: Sequence[Run], busy: Collection[Path], claim: Claim = always
    ) -> list[tuple[Run, Process]]:
        """Take up the jobs that an earlier queue has left, and submit the other runs."""
        mine: list[Run] = []
        others: set[Path] = set()  # of another queue, and what needs them
        for run in waiting:  # each behind what it needs
            if others & set(run.needs) or not claim(run):
                others.add(run.folder)
            else:
                mine.append(run)
        for run in mine:
            if (job := self._left(run)) is not None:
                self._watch(run, job, ())
                self._say(f'{run.title}: job {job.job_id} of an earlier call goes on')
        rest = [run for run in mine if run.folder not in self._watched]
        for some in groups(rest).values():
            self._submit(some)
        return [(run, self._watched[run.folder]) for run in mine]

    def text(self, process: Process) -> str:
        """Nothing of a job that waits, which may be one of hundreds."""
        assert isinstance(process, _Watched)
        return '' if process.state in ('PENDING', 'UNKNOWN') else process.state.lower()

    def leave(self) -> None:
        """Leave the jobs to SLURM, and tell how to see and to end them."""
        # by what is known: a look may submit a job again
        going = [
            each.job.job_id
            for each in self._watched.values()
            if each.state not in _OVER and not each.run.finished
        ]
        if going:
            jobs = sorted({name.partition('_')[0] for name in going})
            self._say(
                f'{len(going)} runs stay with SLURM: squeue --jobs={",".join(jobs)} shows them, '
                f'this same command watches them again, scancel {" ".join(jobs)} ends them.'
            )

    def submit_again(self, run: Run, why: str) -> None:
        """Submit a run whose job is over without a result."""
        self._say(f'{run.title}: {why}; submitted again')
        self._submit([run])

    def current(self, run: Run) -> tuple[str, ...]:
        """The jobs of the runs that a run needs, as far as they are not finished."""
        needs = [self._watched[need] for need in run.needs if need in self._watched]
        return tuple(need.job.job_id for need in needs if not need.run.finished)

    def _submit(self, runs: Sequence[Run]) -> None:
        needs = self.current(runs[0])
        waits = {}
        if needs:
            extra = {'kill_on_invalid_dep': 'yes'}  # else a job waits for one that failed for ever
            extra |= self._parameters.get('additional_parameters') or {}
            waits = dict(dependency=f'afterok:{":".join(needs)}', additional_parameters=extra)
        self._executor.parameters.clear()
        self._executor.update_parameters(**{**self._parameters, **waits})
        tasks = [
            ToolRun((*self._command, *run.arguments), str((run.folder / LOG).absolute()))
            for run in runs
        ]
        try:
            jobs = self._executor.submit_array(tasks)
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            said = str(error).strip().splitlines() or [type(error).__name__]
            raise UserError(f'--on slurm: sbatch refused the job: {said[-1]}') from error
        for run, job in zip(runs, jobs, strict=True):
            run.folder.mkdir(parents=True, exist_ok=True)
            note = {'job': job.job_id, 'submitted': time.time(), 'folder': str(self._folder)}
            write_atomically(run.folder / NOTE, json.dumps(note).encode())
            self._watch(run, job, needs)

    def _left(self, run: Run) -> Any:
        """The job of a run that SLURM still has; None if there is none."""
        from submitit import SlurmJob

        try:
            note = json.loads((run.folder / NOTE).read_text())
            job: Any = SlurmJob(note['folder'], note['job'])
            submitted = float(note['submitted'])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        state = _state(job, 'force')
        alive = state not in _OVER and (_is_known(job) or time.time() - submitted < _LOST)
        return job if alive else None

    def _watch(self, run: Run, job: Any, needs: tuple[str, ...]) -> None:
        if run.folder in self._watched:
            self._watched[run.folder].move(job, needs)
        else:
            self._watched[run.folder] = _Watched(run, job, needs, self)

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)


@dataclass
class _Watched:
    """A run's job, seen as a process.

    Attributes:
        run: What runs.
        job: submitit's job, another one once it was submitted again.
        needs: The jobs that it waits for.
        cluster: What submits it again.
    """

    run: Run
    job: Any
    needs: tuple[str, ...]
    cluster: Cluster
    state: str = 'UNKNOWN'
    submissions: int = 1

    def __post_init__(self) -> None:
        self._known = time.monotonic()  # when SLURM last knew the job

    def move(self, job: Any, needs: tuple[str, ...]) -> None:
        """Watch another job."""
        self.job, self.needs = job, needs
        self.state = 'UNKNOWN'
        self.submissions += 1
        self._known = time.monotonic()

    def poll(self) -> int | None:
        """0 with a result, 1 once the job is over without one, None while it goes on."""
        with contextlib.suppress(OSError):
            os.listdir(self.run.folder)  # makes NFS ask its server again
        if self.run.finished:
            return 0
        # written at the end of a job that SLURM puts back as well, so that only the state tells
        ended = self.job.paths.result_pickle.exists()
        self.state = _state(self.job, 'force' if ended else 'standard')
        if self.state in _OVER:
            return self._over()
        if _is_known(self.job):
            self._known = time.monotonic()
        elif time.monotonic() - self._known > _LOST:
            return self._forgotten()
        return None

    def _forgotten(self) -> int:
        """Give up a job of which sacct says nothing any more."""
        self._note(
            f'SLURM has not known job {self.job.job_id} for {_LOST / 60:.0f} minutes (sacct). The '
            'same command submits its run again.'
        )
        return 1

    def _over(self) -> int | None:
        """What the end of the job means; None where its run goes on in another one."""
        if self.run.finished:  # by now
            return 0
        if self.state in _TAKEN and self.submissions <= _AGAIN:
            self.cluster.submit_again(self.run, f'job {self.job.job_id} has ended as {self.state}')
            return None
        if self.state == 'CANCELLED' and set(self.cluster.current(self.run)) - set(self.needs):
            self.cluster.submit_again(self.run, 'what it waits for was submitted again')
            return None
        if self.state != 'FAILED':  # where the tool itself has said nothing
            self._note(f'job {self.job.job_id} of SLURM has ended as {self.state}')
        return 1

    def _note(self, message: str) -> None:
        # where the folder is gone, the queue says so
        with contextlib.suppress(OSError), (self.run.folder / LOG).open('a') as log:
            log.write(f'error: {message}\n')

    def terminate(self) -> None:
        """End the job."""
        self.job.cancel(check=False)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of the job."""
        self.job.wait()
        return self.poll() or 0


def _state(job: Any, mode: str) -> str:
    """What sacct says of a job, without who did it (``CANCELLED by 1000``)."""
    watcher: Any = job.watcher
    state: str = watcher.get_state(job.job_id, mode=mode).split()[0].rstrip('+').upper()
    if state not in _OVER:
        # submitit takes some that go on for finished, such as SUSPENDED, and asks no more
        watcher._finished.discard(job.job_id)
    return state


def _is_known(job: Any) -> bool:
    """Whether sacct's last answer has a job; submitit keeps the state that it once heard."""
    watcher: Any = job.watcher
    return job.job_id in watcher.read_info(watcher._output)
