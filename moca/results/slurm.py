"""Runs of a queue as jobs of a SLURM cluster, submitted by submitit (``requirements/slurm.txt``).

Runs that need no other are one job array, those that need the same runs another one, which SLURM
starts when these are finished. Jobs do not need the queue: it only watches them. A job that is
preempted, or about to meet its time limit, puts itself back in SLURM's queue, and its run goes on
from its newest checkpoint.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console

from moca.engine.processes import Process
from moca.errors import UserError
from moca.results.queue import LOG, Claim, Run, always
from moca.results.slurm_jobs import OVER, EarlierJobs, Watched, note_job
from moca.results.slurm_task import ToolRun

POLL = 5.0
"""Seconds between looks at the jobs' folders; submitit asks sacct far less often."""

TIMEOUTS = 10
"""How often a job puts itself back after meeting its time limit; ours, submitit has 3."""


def check_cluster() -> None:
    """Verify that jobs can be submitted and watched from here.

    Raises:
        UserError: submitit or a program of SLURM's is missing.
    """
    if importlib.util.find_spec('submitit') is None:
        raise UserError(
            '--on slurm: install its package: pip install -r requirements/slurm.txt (submitit)'
        )
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


def groups(runs: Sequence[Run], jobs: Collection[Path] = ()) -> dict[tuple[Path, ...], list[Run]]:
    """Runs by those of the others that they need, each group behind what it needs.

    Args:
        runs: Each behind those that it needs.
        jobs: Work dirs of runs that have jobs already, which these may need as well.
    """
    here = {*jobs, *(run.folder for run in runs)}
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
        self._earlier = EarlierJobs()
        self._watched: dict[Path, Watched] = {}

    def start(
        self, waiting: Sequence[Run], busy: Collection[Path], claim: Claim = always
    ) -> list[tuple[Run, Process]]:
        """Take up the jobs that an earlier queue has left, and submit the other runs.

        Raises:
            UserError: sacct does not tell which jobs go on, or sbatch refuses one.
        """
        mine: list[Run] = []
        others: set[Path] = set()  # where another is at work, and what needs them
        for run in waiting:  # each behind what it needs
            if others & set(run.needs) or not claim(run, watched=True):
                others.add(run.folder)
            else:
                mine.append(run)
        left = self._earlier.of(mine)
        rest: list[Run] = []
        for run in mine:
            if run.folder in left:
                job, needs = left[run.folder]
                self._watch(run, job, needs)
                self._say(f'{run.title}: job {job.job_id} of an earlier call goes on')
            elif others & set(run.needs) or not claim(run):
                others.add(run.folder)
            else:
                rest.append(run)
        for some in groups(rest, self._watched).values():
            self._submit(some)
        return [(run, self._watched[run.folder]) for run in mine if run.folder not in others]

    def text(self, process: Process) -> str:
        """Nothing of a job that waits, which may be one of hundreds."""
        assert isinstance(process, Watched)
        return '' if process.state in ('PENDING', 'UNKNOWN') else process.state.lower()

    def leave(self) -> None:
        """Leave the jobs to SLURM, and tell how to see and to end them."""
        # by what is known: a look may submit a job again
        going = [
            each.job.job_id
            for each in self._watched.values()
            if each.state not in OVER and not each.run.finished
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
        needs = tuple(dict.fromkeys(job for run in runs for job in self.current(run)))
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
        for run in runs:  # what is there later is of this job
            with suppress(OSError):
                (run.folder / LOG).unlink()
        try:
            jobs = self._executor.submit_array(tasks)
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            said = str(error).strip().splitlines() or [type(error).__name__]
            raise UserError(f'--on slurm: sbatch refused the job: {said[-1]}') from error
        for run, job in zip(runs, jobs, strict=True):
            note_job(run.folder, job.job_id, self._folder, needs)
            self._watch(run, job, needs)

    def _watch(self, run: Run, job: Any, needs: tuple[str, ...]) -> None:
        if run.folder in self._watched:
            self._watched[run.folder].move(job, needs)
        else:
            self._watched[run.folder] = Watched(run, job, needs, self)

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)
