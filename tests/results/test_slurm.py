"""Runs as jobs, submitted by submitit to programs that are called as SLURM's are."""

from __future__ import annotations

import io
import json
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from moca.errors import UserError
from moca.results import queue, slurm, slurm_jobs
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
# Says what `states` has written, or that it cannot; keeps how it was called.
SACCT = """#!/usr/bin/env bash
cd "$(dirname "$0")"
echo "$@" >> asked
if [ -e down ]; then echo 'sacct: error: Connection refused' >&2; exit 1; fi
cat states
"""


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
    ask = slurm_jobs._state
    monkeypatch.setattr(slurm_jobs, '_state', lambda job, mode: ask(job, 'force'))
    return folder


def states(folder: Path, **of: str) -> None:
    """Have sacct say this of jobs, ``_101_0='RUNNING'``."""
    lines = [f'{job[1:]}|{state}|node1' for job, state in of.items()]
    (folder / 'states').write_text('\n'.join(['JobID|State|NodeList', *lines]) + '\n')
    # submitit asks no sooner than a millisecond later, by a clock that may be set back
    submitit.SlurmJob.watcher._last_status_check = float('-inf')


@dataclass(frozen=True)
class Student(Job):
    of: str = 'a'

    @property
    def needs(self) -> tuple[Path, ...]:
        return (self.folder.with_name(self.of),)


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
    notes = [json.loads((run.folder / slurm_jobs.NOTE).read_text())['job'] for run in (a, b, c)]
    assert notes == ['101_0', '101_1', '102']


def test_what_needs_a_job_of_an_earlier_call_waits_for_that_one(
    programs, cluster, tmp_path
) -> None:
    teachers = [job(tmp_path, 'a'), job(tmp_path, 'b')]
    cluster()[0].start(teachers, [])
    states(programs, _101_0='RUNNING', _101_1='PENDING')
    students = [job(tmp_path, name, Student) for name in 'cdef']
    students[1] = replace(students[1], of='b')
    students[3] = replace(students[3], of='absent')
    pool, _ = cluster()
    pool.start([*teachers, *students], [])
    submitted = [path.read_text() for path in sorted(programs.glob('submitted*'))[1:]]
    waits = [re.findall(r'--(array|dependency)=(.*)', text) for text in submitted]
    assert waits == [
        [('array', '0-1%2'), ('dependency', 'afterok:101_0')],  # c, e
        [('dependency', 'afterok:101_1')],  # d
        [],  # f
    ]


def test_what_waits_since_an_earlier_call_is_submitted_again_only_with_what_it_waits_for(
    programs, cluster, tmp_path
) -> None:
    runs = [job(tmp_path, 'a'), job(tmp_path, 'c', Student)]
    cluster()[0].start(runs, [])
    states(programs, _101='RUNNING', _102='PENDING')
    (_, first), (_, second) = cluster()[0].start(runs, [])
    states(programs, _101='RUNNING', _102='CANCELLED by 7')
    assert (first.poll(), second.poll()) == (None, 1), 'somebody has cancelled it'
    states(programs, _101='NODE_FAIL', _102='CANCELLED by 0')
    assert (first.poll(), second.poll()) == (None, None)
    assert (first.job.job_id, second.job.job_id) == ('103', '104')
    assert '--dependency=afterok:103\n' in (programs / 'submitted104').read_text()


def test_jobs_that_go_on_are_watched_and_nothing_starts_where_another_run_is(
    programs, cluster, tmp_path
) -> None:
    a, b, c = job(tmp_path, 'a'), job(tmp_path, 'b'), replace(job(tmp_path, 'c', Student), of='b')
    cluster()[0].start([a], [])
    states(programs, _101='RUNNING')
    started = cluster()[0].start([a, b, c], [], lambda run, watched=False: watched)
    assert [(run, process.job.job_id) for run, process in started] == [(a, '101')]
    assert len(list(programs.glob('submitted*'))) == 1


def test_a_job_that_fails_before_its_run_names_what_it_has_said(
    programs, cluster, tmp_path, monkeypatch
) -> None:
    runs = [job(tmp_path, name) for name in 'abc']
    runs[1].folder.mkdir(parents=True)
    (runs[1].folder / LOG).write_text('error: of an earlier call\n')

    def end(_: float) -> None:
        (tmp_path / 'slurm/101_1_0_log.out').touch()  # with --output alone
        for file in runs[2].folder.iterdir():
            file.unlink()
        states(programs, **{f'_101_{n}': 'FAILED' for n in range(3)})

    monkeypatch.setattr(queue, 'time', SimpleNamespace(sleep=end))
    text = io.StringIO()
    run_jobs(runs, cluster()[0], Console(file=text, width=300), poll=0)
    failed = 'failed: error: job 101_{} of SLURM has failed before its run began: see {}/slurm/{} '
    assert failed.format(0, tmp_path, '101_0_0_log.err') in text.getvalue()
    assert failed.format(1, tmp_path, '101_1_0_log.out') in text.getvalue()
    assert 'c: failed: its folder was removed or emptied' in text.getvalue()


def test_without_an_answer_of_sacct_nothing_is_submitted_twice(programs, cluster, tmp_path) -> None:
    runs = [job(tmp_path, 'a'), job(tmp_path, 'b')]
    cluster()[0].start(runs, [])
    for run in runs:  # long ago
        note = json.loads((run.folder / slurm_jobs.NOTE).read_text())
        (run.folder / slurm_jobs.NOTE).write_text(json.dumps({**note, 'submitted': 0}))
    states(programs, _101_0='RUNNING', _101_1='CANCELLED by 7')
    (programs / 'asked').unlink(missing_ok=True)
    (programs / 'down').touch()
    said = 'sacct does not answer: sacct: error: Connection refused. .* give the command again'
    with pytest.raises(UserError, match=said):
        cluster()[0].start(runs, [])
    assert len(list(programs.glob('submitted*'))) == 1
    (programs / 'down').unlink()
    assert [process.job.job_id for _, process in cluster()[0].start(runs, [])] == ['101_0', '102']
    asked = (programs / 'asked').read_text().splitlines()
    assert asked == ['--format=JobID,State --parsable2 --jobs=101'] * 2, 'once for all runs'


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


def test_a_run_whose_folder_is_removed_has_failed(programs, cluster, tmp_path, monkeypatch) -> None:
    runs = [job(tmp_path, name) for name in 'ab']
    pool, _ = cluster()

    def remove(_: float) -> None:
        shutil.rmtree(runs[0].folder, ignore_errors=True)
        finish(runs[1])
        states(programs, _101_0='OUT_OF_MEMORY', _101_1='COMPLETED')

    monkeypatch.setattr(queue, 'time', SimpleNamespace(sleep=remove))
    text = io.StringIO()
    outcomes = run_jobs(runs, pool, Console(file=text, width=300), poll=0)
    assert [run.title for run in outcomes['failed']] == ['a']
    assert [run.title for run in outcomes['finished']] == ['b']
    assert f'a: failed: its folder was removed or emptied while it ran ({runs[0].folder})' in (
        text.getvalue()
    )


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


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What watching takes for time: its monotonic clock shows ``clock.now[0]``."""
    now = [0.0]
    clock = SimpleNamespace(now=now, time=time.time, monotonic=lambda: now[0])
    monkeypatch.setattr(slurm_jobs, 'time', clock)
    return clock


def test_a_job_that_slurm_has_forgotten_is_watched_no_longer_than_that(
    programs, cluster, tmp_path, clock
) -> None:
    now = clock.now
    run = job(tmp_path, 'a')
    ((_, process),) = cluster()[0].start([run], [])
    states(programs, _101='RUNNING')
    steps = {3000: 'RUNNING', 6000: None, 9599: None, 9601: 'no answer', 9602: None}
    for now[0], state in steps.items():
        states(programs, **({'_101': state} if state else {}))
        (programs / 'down').unlink(missing_ok=True)
        if state == 'no answer':
            (programs / 'down').touch()
        last = process.poll()
        assert (last is None) == (now[0] < 9602), now
        assert process.state == 'RUNNING'  # as submitit keeps it
    assert last == 1
    said = (run.folder / LOG).read_text()
    assert said.startswith('error: SLURM has not known job 101 for 60 minutes (sacct).')
    # the next call does not wait for it either
    clock.time = lambda: time.time() + 3601
    assert cluster()[0].start([run], [])[0][1].job.job_id == '102'


def test_a_job_that_sacct_has_never_told_of_is_not_forgotten(
    programs, cluster, tmp_path, clock
) -> None:
    now = clock.now
    states(programs, _7='RUNNING')
    submitit.SlurmJob(tmp_path, '7').watcher.update()  # an answer from before the submission
    ((_, process),) = cluster()[0].start([job(tmp_path, 'a')], [])
    (programs / 'down').touch()
    for now[0] in (10.0, 4000.0, 8000.0):
        assert process.poll() is None
    (programs / 'down').unlink()
    for now[0] in (8001.0, 11_600.0, 11_602.0):
        states(programs)
        assert process.poll() == (1 if now[0] > 11_601 else None), now


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
    code = (
        'import os, signal, time; os.kill(os.getpid(), signal.SIGUSR2); '
        'print("goes on", flush=True); time.sleep(600)'
    )
    task = ToolRun((sys.executable, '-c', code), str(log))

    class Requeued(Exception):
        pass

    def told(*_: object) -> None:
        if task._process is None or log.read_text() != 'goes on\n':
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            return
        again.append(task.checkpoint().function)
        raise Requeued

    again: list[ToolRun] = []
    before = signal.signal(signal.SIGALRM, told)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
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
    with pytest.raises(UserError, match=r'pip install -r requirements/slurm\.txt'):
        slurm.check_cluster()
