"""Runs as jobs, submitted by submitit to programs that are called as SLURM's are."""

from __future__ import annotations

import io
import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from moca.errors import UserError
from moca.results import queue, slurm
from moca.results.jobs import Job
from moca.results.queue import LOG, run_jobs
from moca.results.slurm import Cluster
from moca.results.slurm_task import ToolRun

submitit = pytest.importorskip('submitit')

# Numbers jobs from 101, keeps what it is given, and refuses a partition.
SBATCH = """#!/usr/bin/env bash
if grep -q partition=absent "$1"; then echo 'sbatch: error: invalid partition' >&2; exit 1; fi
count=$(ls "$(dirname "$0")" | grep -c '^submitted')
cp "$1" "$(dirname "$0")/submitted$((101 + count))"
echo "Submitted batch job $((101 + count))"
"""
SACCT = '#!/usr/bin/env bash\ncat "$(dirname "$0")/states"\n'


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / 'bin'
    folder.mkdir()
    for name, text in (('sbatch', SBATCH), ('sacct', SACCT), ('srun', '#!/bin/sh\n')):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv('PATH', str(folder), prepend=':')
    states(folder)
    submitit.SlurmJob.watcher.clear()
    submitit.SlurmJob.watcher._registered.clear()
    monkeypatch.setattr(slurm, '_state', lambda job, mode, ask=slurm._state: ask(job, 'force'))
    return folder


def states(folder: Path, **of: str) -> None:
    """Have sacct say this of jobs, ``_101_0='RUNNING'``."""
    lines = [f'{job[1:]}|{state}|node1' for job, state in of.items()]
    (folder / 'states').write_text('\n'.join(['JobID|State|NodeList', *lines]) + '\n')
    time.sleep(0.002)  # submitit asks once a millisecond


class Student(Job):
    @property
    def needs(self) -> tuple[Path, ...]:
        return (self.folder.with_name('a'),)


def job(folder: Path, name: str, kind: type[Job] = Job) -> Job:
    return kind(name, folder / 'runs' / name, (name,), f'{name}.pth')


def finish(run: Job) -> None:
    run.folder.mkdir(parents=True, exist_ok=True)
    (run.folder / 'run.json').write_text(json.dumps({'status': 'finished'}))


@pytest.fixture
def cluster(tmp_path: Path) -> Callable[..., tuple[Cluster, io.StringIO]]:
    def make(*command: str, **parameters: Any) -> tuple[Cluster, io.StringIO]:
        text = io.StringIO()
        given = {'partition': 'long', 'time': 60, 'gres': 'gpu:1', **parameters}
        console = Console(file=text, width=300)
        return Cluster(command or ('true',), tmp_path / 'slurm', given, console), text

    return make


def test_one_array_of_what_is_free_and_one_of_what_waits(programs, cluster, tmp_path) -> None:
    a, b, c = job(tmp_path, 'a'), job(tmp_path, 'b'), job(tmp_path, 'c', Student)
    pool, _ = cluster(additional_parameters={'qos': 'high'})
    assert [run for run, _ in pool.start([a, b, c], [])] == [a, b, c]
    first, second = ((programs / f'submitted{n}').read_text() for n in (101, 102))
    for line in ('--array=0-1%2', '--partition=long', '--time=60', '--gres=gpu:1', '--qos=high'):
        assert f'#SBATCH {line}\n' in first
    assert 'dependency' not in first
    assert '#SBATCH --dependency=afterok:101_0\n' in second
    assert '#SBATCH --kill-on-invalid-dep=yes\n' in second
    assert '#SBATCH --qos=high\n' in second
    notes = [json.loads((run.folder / slurm.NOTE).read_text())['job'] for run in (a, b, c)]
    assert notes == ['101_0', '101_1', '102']


def test_a_job_runs_the_tool_and_its_log_is_the_runs(programs, cluster, tmp_path) -> None:
    run = job(tmp_path, 'a')
    pool, _ = cluster(sys.executable, '-c', 'import sys; print("given", sys.argv[1:]); sys.exit(3)')
    ((_, process),) = pool.start([run], [])
    function = process.job.submission().function
    with pytest.raises(RuntimeError, match=r'exit code 3, see .*queue\.log'):
        function()
    assert (run.folder / LOG).read_text() == "given ['a']\n"


def test_outcomes_are_those_of_the_folders_and_of_sacct(
    programs, cluster, tmp_path, monkeypatch
) -> None:
    runs = [job(tmp_path, name) for name in 'abcd']
    pool, _ = cluster()

    def pass_time(_: float) -> None:
        steps.pop(0)()

    def begin() -> None:
        states(programs, **{f'_101_{n}': 'RUNNING' for n in range(4)})

    def end() -> None:
        finish(runs[0])  # whatever sacct says
        (runs[1].folder / LOG).write_text('error: --data-root x: no such folder.\n')
        ends = ('RUNNING', 'FAILED', 'CANCELLED by 7', 'OUT_OF_MEMORY')
        states(programs, **{f'_101_{n}': state for n, state in enumerate(ends)})

    steps = [begin, end]
    monkeypatch.setattr(queue, 'time', SimpleNamespace(sleep=pass_time))
    text = io.StringIO()
    outcomes = run_jobs(runs, pool, Console(file=text, width=300), poll=0)
    assert {name: [run.title for run in some] for name, some in outcomes.items()} == {
        'finished': ['a'],
        'failed': ['b', 'c', 'd'],
        'was finished before': [],
    }
    said = text.getvalue()
    assert 'b: failed: error: --data-root x: no such folder.' in said
    assert 'c: failed: error: job 101_2 of SLURM has ended as CANCELLED' in said
    assert 'd: failed: error: job 101_3 of SLURM has ended as OUT_OF_MEMORY' in said


def test_what_is_taken_away_is_submitted_again_with_what_waits_for_it(
    programs, cluster, tmp_path
) -> None:
    a, c = job(tmp_path, 'a'), job(tmp_path, 'c', Student)
    pool, text = cluster()
    (_, first), (_, second) = pool.start([a, c], [])
    states(programs, _101='NODE_FAIL', _102='CANCELLED by 0')
    assert (first.poll(), second.poll()) == (None, None)
    assert (first.job.job_id, second.job.job_id) == ('103', '104')
    assert 'afterok:103\n' in (programs / 'submitted104').read_text()
    assert 'a: job 101 has ended as NODE_FAIL; submitted again' in text.getvalue()
    states(programs, _103='RUNNING', _104='CANCELLED by 7')
    assert (first.poll(), second.poll()) == (None, 1), 'somebody has cancelled it'
    for lost in ('103', '105', '106'):
        states(programs, **{f'_{lost}': 'PREEMPTED'})
        last = first.poll()
    assert last == 1, 'three times are enough'
    assert len(list(programs.glob('submitted*'))) == 6


def test_a_job_that_slurm_has_forgotten_is_watched_no_longer_than_that(
    programs, cluster, tmp_path, monkeypatch
) -> None:
    now = [0.0]
    clock = SimpleNamespace(time=time.time, monotonic=lambda: now[0])
    monkeypatch.setattr(slurm, 'time', clock)
    run = job(tmp_path, 'a')
    ((_, process),) = cluster()[0].start([run], [])
    states(programs, _101='RUNNING')
    for now[0], state in ((3000.0, 'RUNNING'), (6000.0, None), (6601.0, None)):
        states(programs, **({'_101': state} if state else {}))
        last = process.poll()
        assert (last is None) == (now[0] < 6600), now
        assert process.state == 'RUNNING'  # as submitit keeps it
    assert last == 1
    said = (run.folder / LOG).read_text()
    assert said.startswith('error: SLURM has not known job 101 for 60 minutes (sacct).')
    # the next call does not wait for it either
    clock.time = lambda: time.time() + 3601
    assert cluster()[0].start([run], [])[0][1].job.job_id == '102'


def test_a_job_that_is_suspended_is_asked_about_again(programs, cluster, tmp_path) -> None:
    ((_, process),) = cluster()[0].start([job(tmp_path, 'a')], [])
    for state, code in (('SUSPENDED', None), ('RUNNING', None), ('OUT_OF_MEMORY', 1)):
        states(programs, _101=state)
        assert process.poll() == code
        assert process.state == state


def test_an_interruption_leaves_the_jobs_and_the_next_call_finds_them(
    programs, cluster, tmp_path, monkeypatch
) -> None:
    runs = [job(tmp_path, 'a'), job(tmp_path, 'b')]
    pool, text = cluster()

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(queue, 'time', SimpleNamespace(sleep=interrupt))
    with pytest.raises(KeyboardInterrupt):
        run_jobs(runs, pool, Console(file=io.StringIO()), poll=0)
    assert '2 runs stay with SLURM: squeue --jobs=101 shows them' in text.getvalue()
    assert 'scancel 101 ends them' in text.getvalue()
    states(programs, _101_0='RUNNING', _101_1='FAILED')
    pool, text = cluster()
    started = pool.start(runs, [])
    assert [process.job.job_id for _, process in started] == ['101_0', '102']
    assert 'a: job 101_0 of an earlier call goes on' in text.getvalue()
    finish(runs[0])
    assert started[0][1].poll() == 0


def test_a_job_that_is_told_to_end_ends_its_run_and_does_it_again(tmp_path) -> None:
    log = tmp_path / 'queue.log'
    # the run is sent the signal as well, as all processes of a job
    code = 'import os, signal, time; os.kill(os.getpid(), signal.SIGUSR2); time.sleep(600)'
    task = ToolRun((sys.executable, '-c', code), str(log))

    class Requeued(Exception):
        pass

    def told(*_: object) -> None:
        again.append(task.checkpoint().function)
        raise Requeued

    again: list[ToolRun] = []
    before = signal.signal(signal.SIGALRM, told)
    signal.setitimer(signal.ITIMER_REAL, 0.4)
    try:
        with pytest.raises(Requeued):
            task()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert again == [task]
    assert task._process is None


def test_what_is_missing_is_said(programs, cluster, tmp_path, monkeypatch) -> None:
    slurm.check_cluster()
    pool, _ = cluster(partition='absent')
    with pytest.raises(UserError, match='sbatch refused the job: sbatch: error: invalid partition'):
        pool.start([job(tmp_path, 'a')], [])
    (programs / 'sacct').unlink()
    with pytest.raises(UserError, match='sacct not found'):
        slurm.check_cluster()
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    with pytest.raises(UserError, match=r'pip install .moca\[slurm\]'):
        slurm.check_cluster()
