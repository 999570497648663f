"""Jobs of a SLURM cluster as a queue watches them: what SLURM says of one, and what that means."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from moca.errors import UserError
from moca.records.whole_files import write_atomically
from moca.results.queue import LOG, Run

NOTE = 'slurm.json'
"""In the folder of a run that was submitted: its job."""

_AGAIN = 3
"""How often a job that SLURM has taken away is submitted anew; ours."""

_LOST = 3600.0
"""Seconds after which a job that SLURM does not know, or knows no more, is taken for gone; ours."""

# https://slurm.schedmd.com/sacct.html, "JOB STATE CODES"
_TAKEN = {'PREEMPTED', 'NODE_FAIL', 'BOOT_FAIL', 'TIMEOUT', 'REVOKED'}
OVER = {*_TAKEN, 'COMPLETED', 'FAILED', 'CANCELLED', 'OUT_OF_MEMORY', 'DEADLINE', 'LAUNCH_FAILED'}
"""States of a job that does not go on."""


def note_job(folder: Path, job: str, submitit: Path, needs: Sequence[str]) -> None:
    """Write down the job of a run, by which a later queue finds it.

    Args:
        folder: Of the run; it is made.
        job: Its number, ``101`` or ``101_0``.
        submitit: The folder of submitit's files.
        needs: Numbers of the jobs that it waits for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    note = {'job': job, 'submitted': time.time(), 'folder': str(submitit), 'needs': list(needs)}
    write_atomically(folder / NOTE, json.dumps(note).encode())


class EarlierJobs:
    """The jobs that earlier queues have submitted, as far as they go on."""

    def __init__(self) -> None:
        self._over: set[str] = set()  # not to be asked about again

    def of(self, runs: Iterable[Run]) -> dict[Path, tuple[Any, tuple[str, ...]]]:
        """The jobs of those runs that have one, for which sacct is asked once.

        Returns:
            submitit's job and the numbers of the jobs that it waits for, by the runs' folders.

        Raises:
            UserError: It does not answer. A run that has a job might be submitted twice.
        """
        from submitit import SlurmJob  # an extra

        notes = {run.folder: note for run in runs if (note := _note_in(run.folder)) is not None}
        notes = {folder: note for folder, note in notes.items() if note['job'] not in self._over}
        states = states_of(note['job'] for note in notes.values()) if notes else {}
        found: dict[Path, tuple[Any, tuple[str, ...]]] = {}
        for folder, note in notes.items():
            state = states.get(note['job'])
            # SLURM's accounting learns of a job a while after its submission
            new = state is None and time.time() - note['submitted'] < _LOST
            if new or (state is not None and state not in OVER):
                found[folder] = SlurmJob(note['folder'], note['job']), note['needs']
            else:
                self._over.add(note['job'])
        return found


def _note_in(folder: Path) -> dict[str, Any] | None:
    """What `note_job` has written to a folder; None if there is nothing."""
    try:
        note = json.loads((folder / NOTE).read_text())
        return {
            'job': str(note['job']),
            'submitted': float(note['submitted']),
            'folder': note['folder'],
            'needs': tuple(note.get('needs', ())),
        }
    except (OSError, ValueError, KeyError, TypeError):
        return None


def states_of(jobs: Iterable[str]) -> dict[str, str]:
    """What sacct says of jobs, all of which one call asks about.

    Args:
        jobs: Their numbers, ``101`` or ``101_0``.

    Returns:
        The states by number; what SLURM does not know is left out.

    Raises:
        UserError: The call fails, which says nothing of any job.
    """
    from submitit import SlurmJob  # an extra

    arrays = sorted({job.partition('_')[0] for job in jobs})
    command = ['sacct', '--format=JobID,State', '--parsable2', f'--jobs={",".join(arrays)}']
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        answer = '' if done.returncode else done.stdout  # it begins with a line of headings
        said = done.stderr.strip().splitlines() or [f'exit code {done.returncode}']
    except OSError as error:
        answer, said = '', [str(error)]
    if not answer.strip():
        raise UserError(
            f'--on slurm: sacct does not answer: {said[-1].rstrip(".")}. Without it nobody knows '
            'which runs have jobs already; give the command again.'
        )
    found = SlurmJob.watcher.read_info(answer)
    return {job: _word(info.get('State') or 'UNKNOWN') for job, info in found.items()}


class Submitter(Protocol):
    """What submits a job again (`moca.results.slurm.Cluster`)."""

    def submit_again(self, run: Run, why: str) -> None:
        """Submit a run whose job is over without a result."""

    def current(self, run: Run) -> tuple[str, ...]:
        """The jobs of the runs that a run needs, as far as they are not finished."""


@dataclass
class Watched:
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
    cluster: Submitter
    state: str = 'UNKNOWN'
    submissions: int = 1

    def __post_init__(self) -> None:
        self._answer = _last_answer(self.job)  # which was about other jobs
        self._missing: float | None = None  # when sacct first answered without the job

    def move(self, job: Any, needs: tuple[str, ...]) -> None:
        """Watch another job."""
        self.job, self.needs = job, needs
        self.state = 'UNKNOWN'
        self.submissions += 1
        self._answer, self._missing = _last_answer(job), None

    def poll(self) -> int | None:
        """0 with a result, 1 once the job is over without one, None while it goes on."""
        with suppress(OSError):
            os.listdir(self.run.folder)  # makes NFS ask its server again
        if self.run.finished:
            return 0
        # written at the end of a job that SLURM puts back as well, so that only the state tells
        ended = self.job.paths.result_pickle.exists()
        self.state = _state(self.job, 'force' if ended else 'standard')
        if self.state in OVER:
            return self._over()
        return self._forgotten() if self._is_lost() else None

    def _is_lost(self) -> bool:
        """Whether two answers of sacct, an hour apart, and all between do not know the job."""
        answer = _last_answer(self.job)
        if answer is self._answer:  # none since, or a call that has failed
            return False
        self._answer = answer
        if self.job.job_id in self.job.watcher.read_info(answer):
            self._missing = None
            return False
        now = time.monotonic()
        if self._missing is None:
            self._missing = now
        return now - self._missing > _LOST

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
        elif not (self.run.folder / LOG).exists() and (self.run.folder / NOTE).exists():
            self._note(
                f'job {self.job.job_id} of SLURM has failed before its run began: see '
                f'{self._output()}'
            )
        return 1

    def _output(self) -> Path:
        """The file of what the job itself says, which is one with its output if so asked for."""
        paths = self.job.paths
        return paths.stdout if paths.stdout.exists() and not paths.stderr.exists() else paths.stderr

    def _note(self, message: str) -> None:
        # where the folder is gone, the queue says so
        with suppress(OSError), (self.run.folder / LOG).open('a') as log:
            log.write(f'error: {message}\n')

    def terminate(self) -> None:
        """End the job."""
        self.job.cancel(check=False)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of the job."""
        self.job.wait()
        return self.poll() or 0


def _state(job: Any, mode: str) -> str:
    """What sacct says of a job; submitit asks it, and keeps what it once heard."""
    watcher: Any = job.watcher
    state = _word(watcher.get_state(job.job_id, mode=mode))
    if state not in OVER:
        # submitit takes some that go on for finished, such as SUSPENDED, and asks no more
        watcher._finished.discard(job.job_id)
    return state


def _word(state: str) -> str:
    """A state without who did it (``CANCELLED by 1000``)."""
    return state.split()[0].rstrip('+').upper()


def _last_answer(job: Any) -> bytes:
    """What sacct last printed for submitit: another object with each call that does not fail."""
    answer: bytes = job.watcher._output
    return answer
