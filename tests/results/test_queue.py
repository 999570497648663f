"""The queue of runs: what is missing runs, what is finished does not, a failure stops nothing."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import timm
import torch
from rich.console import Console

from moca.engine.processes import start
from moca.engine.work_dir import LOCK
from moca.errors import UserError
from moca.results import claims, queue
from moca.results.claims import CLAIM
from moca.results.jobs import Job
from moca.results.plan import Plan, known_tasks, make_jobs, task_parts, task_path
from moca.results.queue import Here, run_jobs
from moca.results.race import Racer
from moca.transfer.run import prepare_training
from moca.transfer.run_record import file_digest
from tests.configs.helpers import REPOSITORY, write_cityscapes
from tools import leaderboard, train

CONFIGS = REPOSITORY / 'configs'


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp('runs') / 'small.pth'
    torch.manual_seed(1)
    torch.save(timm.create_model('vit_tiny_patch16_224', num_classes=0).state_dict(), path)
    return str(path)


def plan(*checkpoints: str, tasks: Sequence[str] = ('driving/linear-bn',), **changes) -> Plan:
    changes = {'archs': ['vit_tiny_patch16'], **changes}
    return Plan(checkpoints, tasks, configs=CONFIGS, **changes)


class Pretender:
    """A process that is over after one look, and leaves what a run leaves."""

    def __init__(self, failing: str = 'nothing') -> None:
        self.started: list[str] = []
        self.failing = failing

    def __call__(self, arguments: Sequence[str], log: Path) -> Pretender.Process:
        folder = log.parent
        folder.mkdir(parents=True, exist_ok=True)
        self.started.append(folder.name)
        if self.failing in folder.name:
            log.write_text('loading\nerror: train_dataloader: DIR/a.png is broken\n\n')
            return self.Process(2)
        log.write_text('Iter(train) [ 1/2]  lr: 1  loss: 4.5  x\n')
        (folder / 'run.json').write_text(json.dumps({'status': 'finished'}))
        return self.Process(0)

    class Process:
        def __init__(self, code: int) -> None:
            self.code, self.looks = code, 0

        def poll(self) -> int | None:
            self.looks += 1
            return self.code if self.looks > 1 else None

        def terminate(self) -> None: ...

        def wait(self, timeout: float | None = None) -> int:
            return self.code


def jobs_in(folder: Path, *names: str) -> list[Job]:
    return [Job(name, folder / name, ('config.py',), f'{name}.pth') for name in names]


def run(jobs: list[Job], launch: Pretender, places: int = 1) -> tuple[dict[str, list[str]], str]:
    text = io.StringIO()
    outcomes = run_jobs(jobs, Here([launch] * places), Console(file=text, width=200), poll=0)
    return {name: [job.title for job in found] for name, found in outcomes.items()}, text.getvalue()


def test_a_failure_stops_nothing_and_a_second_call_runs_only_what_failed(tmp_path):
    jobs = jobs_in(tmp_path, 'a', 'b', 'c')
    first, said = run(jobs, Pretender(failing='b'))
    assert first == {'finished': ['a', 'c'], 'failed': ['b'], 'was finished before': []}
    assert 'error: train_dataloader: DIR/a.png is broken (see' in said
    again = Pretender()
    second, _ = run(jobs, again)
    assert again.started == ['b']
    assert second == {'finished': ['b'], 'failed': [], 'was finished before': ['a', 'c']}


def test_the_reason_is_the_tools_and_not_torchruns(tmp_path):
    class Torchrun(Pretender):
        def __call__(self, arguments: Sequence[str], log: Path) -> Pretender.Process:
            log.parent.mkdir(parents=True, exist_ok=True)
            block = (
                'torch.distributed.elastic.multiprocessing.errors.ChildFailedError:\n' + 'x\n' * 9
            )
            log.write_text('ValueError: no\nerror: model.bank_size=512 is wrong\n' + block * 100)
            return self.Process(1)

    _, said = run(jobs_in(tmp_path, 'a'), Torchrun())
    assert 'failed: error: model.bank_size=512 is wrong (see' in said


def test_a_run_that_ends_well_but_without_a_result_has_failed(tmp_path):
    class Forgetful(Pretender):
        def __call__(self, arguments: Sequence[str], log: Path) -> Pretender.Process:
            process = super().__call__(arguments, log)
            log.write_text('Build settings: CXX_FLAGS=-O2 -Werror=return-type\nValueError: old\n')
            (log.parent / 'run.json').write_text(json.dumps({'status': 'running'}))
            return process

    outcomes, said = run(jobs_in(tmp_path, 'a'), Forgetful())
    assert outcomes['failed'] == ['a']
    assert 'failed: ended without its result (see' in said
    assert 'Werror' not in said


def test_the_reason_is_a_line_of_python(tmp_path):
    class Crashing(Pretender):
        def __call__(self, arguments: Sequence[str], log: Path) -> Pretender.Process:
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text(
                '[rank0]: ValueError: no\nflags: -Werror=return-type\nan Error here\n'
                'torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \n'
            )
            return self.Process(1)

    assert 'failed: [rank0]: ValueError: no (see' in run(jobs_in(tmp_path, 'a'), Crashing())[1]


# A queue whose runs sleep, both at once.
QUEUE = """
import sys
from pathlib import Path
from rich.console import Console
from moca.engine.processes import start
from moca.results.jobs import Job
from moca.results.queue import Here, run_jobs

def launch(arguments, log):
    process = start([sys.executable, '-c', 'import time; time.sleep(600)'], log)
    print(process.pid, flush=True)
    return process

jobs = [Job(name, Path(sys.argv[1], name), (), 'a.pth') for name in 'ab']
run_jobs(jobs, Here([launch, launch]), Console(file=sys.stderr), poll=0.05)
"""


def is_held(path: Path) -> bool:
    """Whether a process holds the lock of a file; asked by another one, whose locks are its own."""
    command = [sys.executable, '-S', '-c', HOLD, path]
    path.parent.mkdir(exist_ok=True)
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return done.returncode != 0


def _is_there(process: int) -> bool:
    """Whether a process is, and has not ended (it may have nobody who asks how)."""
    try:
        return Path(f'/proc/{process}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except OSError:
        return False


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGKILL])
def test_a_queue_that_ends_takes_its_runs_with_it(tmp_path, number):
    with subprocess.Popen(
        [sys.executable, '-c', QUEUE, tmp_path], stdout=subprocess.PIPE, text=True
    ) as queue:
        runs = [int(queue.stdout.readline()) for _ in range(2)]
        queue.send_signal(number)
        assert queue.wait(timeout=60) == (143 if number == signal.SIGTERM else -number)
    try:
        until = time.monotonic() + 60
        while any(map(_is_there, runs)) and time.monotonic() < until:
            time.sleep(0.02)
        assert not any(map(_is_there, runs))
    finally:
        for run in runs:
            with contextlib.suppress(ProcessLookupError):
                os.kill(run, signal.SIGKILL)


# Holds the lock of a file as another queue does, until its input ends.
HOLD = """
import fcntl, sys
with open(sys.argv[1], 'a+') as file:
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    file.write('process 7 on elsewhere')
    file.flush()
    print('ready', flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize(
    ('lock', 'who', 'finishes'),
    [(CLAIM, 'queue', True), (CLAIM, 'queue', False), (LOCK, 'run', True), (LOCK, 'run', False)],
)
def test_what_another_is_at_work_on_is_waited_for(tmp_path, monkeypatch, lock, who, finishes):
    folder = tmp_path / 'a'
    folder.mkdir()
    (folder / 'queue.log').write_text('of the other queue')
    command = [sys.executable, '-S', '-c', HOLD, folder / lock]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        launch, looks = Pretender(), []

        def pass_time(_: float) -> None:
            looks.append(list(launch.started))
            if len(looks) == 5:  # 'b' is over long ago
                assert (folder / 'queue.log').read_text() == 'of the other queue'
                if finishes:
                    (folder / 'run.json').write_text(json.dumps({'status': 'finished'}))
                other.communicate()

        monkeypatch.setattr(queue, 'time', SimpleNamespace(sleep=pass_time))
        outcomes, said = run(jobs_in(tmp_path, 'a', 'b'), launch)
    assert looks[:5] == [['b']] * 5, 'the one behind it goes on'
    assert said.count(f'another {who} is at work on it (process 7 on elsewhere)') == 1
    assert launch.started == (['b'] if finishes else ['b', 'a'])
    assert outcomes['was finished before'] == (['a'] if finishes else [])
    assert outcomes['finished'] == (['b'] if finishes else ['a', 'b'])


def test_a_queue_holds_what_it_runs_and_no_more(tmp_path):
    held: list[list[bool]] = []
    (tmp_path / 'a').mkdir()
    (tmp_path / 'a' / LOCK).write_text('process 7 on elsewhere')  # which has ended

    class Looking(Pretender):
        def __call__(self, arguments: Sequence[str], log: Path) -> Pretender.Process:
            held.append([is_held(tmp_path / name / CLAIM) for name in 'ab'])
            assert not is_held(log.parent / LOCK), 'the lock is for the run to take'
            return super().__call__(arguments, log)

    run(jobs_in(tmp_path, 'a', 'b'), Looking())
    assert held[0] == [True, False], 'what waits is free'
    assert held[1][1]
    assert not any(is_held(tmp_path / name / CLAIM) for name in 'ab')


def test_a_folder_that_cannot_be_written_to_stops_nothing(tmp_path, monkeypatch):
    (tmp_path / 'a').touch()

    def refused(path: Path, function: Callable[[Path], Any]) -> Any:
        if path.parent.name == 'c':  # of another user
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return function(path)

    monkeypatch.setattr(claims, 'held', lambda path, plain=claims.held: refused(path, plain))
    monkeypatch.setattr(Path, 'is_file', lambda path, plain=Path.is_file: refused(path, plain))
    launch = Pretender()
    c = Racer('c', tmp_path / 'c', (), tmp_path / 'c/epoch_1.pth', epochs=1, watched=False)
    first, last = jobs_in(tmp_path, 'a', 'a/b'), jobs_in(tmp_path, 'd')
    outcomes, said = run([*first, c, *last], launch)
    assert outcomes == {'finished': ['d'], 'failed': ['a', 'a/b', 'c'], 'was finished before': []}
    assert launch.started == ['d']
    for name, why in (('a', 'File exists'), ('a/b', 'Not a directory'), ('c', 'Permission denied')):
        line = f'{tmp_path / name}: nothing can be written there ({why}). Give another --work-dir.'
        assert f'{name}: failed: {line}\n' in said


def test_a_run_whose_folder_is_removed_stops_nothing(tmp_path):
    class Removing(Pretender):
        def __call__(self, arguments: Sequence[str], log: Path) -> Pretender.Process:
            process = super().__call__(arguments, log)
            if log.parent.name in ('a', 'b'):
                shutil.rmtree(log.parent)
                process.code = 'ab'.index(log.parent.name)
            if log.parent.name == 'c':
                shutil.rmtree(tmp_path / 'd', ignore_errors=True)
            return process

    outcomes, said = run(jobs_in(tmp_path, *'abcd'), Removing())
    assert outcomes == {'finished': ['c', 'd'], 'failed': ['a', 'b'], 'was finished before': []}
    for name in 'ab':
        assert f'failed: its folder was removed or emptied while it ran ({tmp_path / name})' in said


def test_a_log_begins_anew_and_leaves_the_old_one_to_who_writes_it(tmp_path):
    log = tmp_path / 'queue.log'
    with log.open('w') as old:
        old.write('x' * 1000)
        old.flush()
        start([sys.executable, '-c', 'print("new")'], log).wait()
        old.write('y')
    assert log.read_text() == 'new\n'


def test_an_interruption_ends_the_running_process(tmp_path):
    ended = []

    class Endless(Pretender.Process):
        def poll(self) -> int | None:
            raise KeyboardInterrupt

        def terminate(self) -> None:
            ended.append('yes')

    with pytest.raises(KeyboardInterrupt):
        run(jobs_in(tmp_path, 'a'), lambda *_: Endless(0))
    assert ended == ['yes']


def test_several_runs_at_a_time_and_none_before_what_it_needs(tmp_path):
    @dataclass(frozen=True)
    class Student(Job):
        of: str = ''

        @property
        def needs(self) -> tuple[Path, ...]:
            return (self.folder.with_name(self.of), tmp_path / 'of another queue')

    class Counting(Pretender):
        going: ClassVar[list[str]] = []
        most = 0

        def __call__(self, arguments: Sequence[str], log: Path) -> Pretender.Process:
            process = super().__call__(arguments, log)
            self.going.append(log.parent.name)
            self.most = max(self.most, len(self.going))
            look = process.poll

            def poll() -> int | None:
                code = look()
                if code is not None and log.parent.name in self.going:
                    self.going.remove(log.parent.name)
                return code

            process.poll = poll
            return process

    def student(name: str, of: str) -> Job:
        return Student(name, tmp_path / name, (), 'x.pth', of=of)

    a, b, c, d = jobs_in(tmp_path, 'a', 'b', 'c', 'd')
    launch = Counting(failing='b')
    queue = [student('of-a', 'a'), student('of-b', 'b'), a, b, c, d]
    outcomes, said = run(queue, launch, places=2)
    assert launch.most == 2
    assert launch.started.index('of-a') > launch.started.index('a')
    assert 'of-b' not in launch.started
    assert outcomes['finished'] == ['of-a', 'a', 'c', 'd']
    assert outcomes['failed'] == ['of-b', 'b']
    assert f'[2/6] of-b: failed: not started, since {tmp_path / "b"} has failed' in said


def test_an_interruption_ends_every_process_before_it_waits_for_one(tmp_path):
    told: list[str] = []

    class Endless(Pretender.Process):
        def poll(self) -> int | None:
            if len(started) == 3:
                raise KeyboardInterrupt
            return None

        def terminate(self) -> None:
            told.append('end')

        def wait(self, timeout: float | None = None) -> int:
            told.append('wait')
            return -15

    started: list[Path] = []

    def launch(arguments: Sequence[str], log: Path) -> Endless:
        started.append(log)
        return Endless(0)

    with pytest.raises(KeyboardInterrupt):
        run(jobs_in(tmp_path, *'abcd'), launch, places=3)
    assert told == ['end'] * 3 + ['wait'] * 3


def test_runs_go_where_the_tool_would_put_them_itself(checkpoint, tmp_path):
    data = write_cityscapes(tmp_path / 'data')
    options = dict(seeds=(0, 3), data_roots={'driving': str(data)}, options=('--amp',))
    jobs = make_jobs(plan(checkpoint, 'random', **options))
    assert [job.title for job in jobs] == [
        f'driving/linear-bn, {name}, seed {seed}' for seed in (0, 3) for name in _names()
    ]
    for job in jobs:
        place = job.arguments.index('--work-dir')
        without = [*job.arguments[:place], *job.arguments[place + 2 :]]
        cfg, _ = prepare_training(train.parse_args(without))
        assert Path(cfg.work_dir) == job.folder
        assert train.parse_args(without).resume == 'auto'
        assert train.parse_args(without).amp


def _names() -> tuple[str, str]:
    return 'small', 'random init'


def test_checkpoints_of_several_architectures_are_measured_beside_each_other(checkpoint):
    tiny, small = 'vit_tiny_patch16', 'vit_small_patch16'
    given = (checkpoint, 'random', 'random')
    jobs = make_jobs(plan(*given, archs=[tiny, tiny, small]))
    folders = [
        'small_vit_tiny_patch16',
        'random-init_vit_tiny_patch16',
        'random-init_vit_small_patch16',
    ]
    assert [job.folder.name for job in jobs] == [f'{name}_seed0' for name in folders]
    for job, arch in zip(jobs, (tiny, tiny, small), strict=True):
        assert job.arguments[job.arguments.index('--arch') + 1] == arch
    own = make_jobs(plan('random', archs=[]))
    assert '--arch' not in own[0].arguments
    with pytest.raises(UserError, match=r'2 architectures \(--arch\) for 3 checkpoints'):
        make_jobs(plan(*given, archs=[tiny, small]))
    with pytest.raises(UserError, match=f'{checkpoint}: does not fit'):
        make_jobs(plan(*given, archs=[small, tiny, tiny]))


def test_protocols_are_found_from_any_folder(checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (job,) = make_jobs(Plan([checkpoint], ['driving/linear-bn'], archs=['vit_tiny_patch16']))
    assert Path(job.arguments[0]) == CONFIGS / 'segmentation/driving/linear-bn.py'


def test_subsets_are_runs_of_their_own(checkpoint):
    jobs = make_jobs(plan(checkpoint, tasks=('cityscapes/linear',), subsets=(100, 372, None)))
    assert len({job.folder for job in jobs}) == 3
    assert [('--subset' in job.arguments) for job in jobs] == [True, True, False]


def test_no_result_is_taken_for_another_files(checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    other = tmp_path / 'small.pth'
    other.write_bytes(Path(checkpoint).read_bytes())
    with pytest.raises(UserError, match=r'would both be measured in .*small_'):
        make_jobs(plan(checkpoint, str(other)))
    (job,) = make_jobs(plan(checkpoint))
    job.folder.mkdir(parents=True)
    record = {'status': 'finished', 'checkpoint': {'path': str(other)}}
    (job.folder / 'run.json').write_text(json.dumps(record))
    with pytest.raises(UserError, match=f'has measured {other}, not {checkpoint}'):
        make_jobs(plan(checkpoint))
    record['checkpoint']['path'] = checkpoint
    (job.folder / 'run.json').write_text(json.dumps(record))
    assert make_jobs(plan(checkpoint))[0].finished
    # the same path, but weights of another training
    record['checkpoint']['sha256'] = hashlib.sha256(b'before').hexdigest()
    (job.folder / 'run.json').write_text(json.dumps(record))
    with pytest.raises(UserError, match=f'another file of the name {checkpoint}'):
        make_jobs(plan(checkpoint))
    record['checkpoint']['sha256'] = hashlib.sha256(other.read_bytes()).hexdigest()  # equal content
    (job.folder / 'run.json').write_text(json.dumps(record))
    assert make_jobs(plan(checkpoint))[0].finished


def test_no_result_is_taken_for_that_of_other_options(checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = write_cityscapes(tmp_path / 'data')
    changes = dict(data_roots={'driving': str(data)}, cfg_options=['train_cfg.max_iters=7'])
    (job,) = make_jobs(plan(checkpoint, **changes))
    cfg, record = prepare_training(train.parse_args(list(job.arguments)))
    assert cfg.train_cfg.max_iters == 7
    job.folder.mkdir(parents=True)
    (job.folder / 'run.json').write_text(json.dumps({'status': 'finished', **record}))
    assert make_jobs(plan(checkpoint, **changes))[0].finished
    for other in (dict(cfg_options=['train_cfg.max_iters=8']), dict(data_roots={})):
        with pytest.raises(
            UserError, match=r'was measured with .*or move that folder away'
        ) as found:
            make_jobs(plan(checkpoint, **{**changes, **other}))
        assert ('data_root: ' in str(found.value)) == ('data_roots' in other)
        assert ('max_iters: 7 -> 8' in str(found.value)) == ('cfg_options' in other)


def test_a_file_is_read_as_the_command_line_says(checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = ['run', '--checkpoint', checkpoint, '--tasks', 'driving/linear-bn', '--arch', 'auto']
    mean, std = ('--mean', '0.1', '0.2', '0.3'), ('--std', '0.5', '0.5', '0.5')
    given = leaderboard.plan_of(
        leaderboard.parse_args([*line, '--patch', '32', *mean, *std, '--data-root', 'driving=data'])
    )
    write_cityscapes(tmp_path / 'data')
    (job,) = make_jobs(given)
    assert job.folder.name == 'small_vit_tiny_patch32_seed0'
    cfg, record = prepare_training(train.parse_args(list(job.arguments)))
    assert (cfg.model.backbone.arch, record['checkpoint']['patch']) == ('vit_tiny_patch32', 32)
    assert record['checkpoint']['mean'] == [0.1, 0.2, 0.3]
    assert record['checkpoint']['normalized_by'] == '--mean and --std'
    job.folder.mkdir(parents=True)
    (job.folder / 'run.json').write_text(json.dumps({'status': 'finished', **record}))
    assert make_jobs(given)[0].finished
    with pytest.raises(UserError, match=r'was measured with mean \[0.1, 0.2, 0.3\], not'):
        make_jobs(replace(given, changes=dict(patch=32)))
    same = dict(archs=['vit_tiny_patch16'], data_roots=given.data_roots)
    whole = make_jobs(replace(given, changes={}, **same))[0]
    job.folder.rename(whole.folder)
    with pytest.raises(UserError, match=r'patches resampled to 32 pixels, not as in the file'):
        make_jobs(replace(given, changes={}, **same))
    with pytest.raises(UserError, match='random has no file to take it of'):
        make_jobs(plan('random', archs=['auto']))


def test_differences_are_held_against_the_file_they_were_added_to(
    checkpoint, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    write_cityscapes(tmp_path / 'data')
    whole = plan(checkpoint, data_roots={'driving': 'data'})
    added = replace(whole, changes=dict(delta_of=checkpoint))
    (job,) = make_jobs(added)
    record = {'path': checkpoint, 'sha256': file_digest(checkpoint)}
    job.folder.mkdir(parents=True)
    for delta, fits, other in ((file_digest(checkpoint), added, whole), (None, whole, added)):
        known = {**record, 'delta_of': delta} if delta else record
        (job.folder / 'run.json').write_text(json.dumps({'checkpoint': known}))
        make_jobs(fits)
        with pytest.raises(UserError, match=r'has measured .* Give the same --delta-of'):
            make_jobs(other)


def test_what_cannot_run_is_refused_before_anything_runs(checkpoint, tmp_path):
    with pytest.raises(UserError, match=r'--tasks driving/linaer: .* driving/linear-bn'):
        make_jobs(plan(checkpoint, tasks=('driving/linaer',)))
    with pytest.raises(UserError, match=r'--data-root cityscapes: no task is of that'):
        make_jobs(plan(checkpoint, data_roots={'cityscapes': 'x'}))
    with pytest.raises(UserError, match=r'--data-root driving=absent: no such folder'):
        make_jobs(plan(checkpoint, data_roots={'driving': 'absent'}))
    with pytest.raises(UserError, match=r'absent\.pth'):
        make_jobs(plan('random', str(tmp_path / 'absent.pth')))
    with pytest.raises(UserError, match='NAME=DIR'):
        leaderboard.plan_of(
            leaderboard.parse_args(
                ['run', '--checkpoint', 'random', '--tasks', 'a', '--data-root', '/data']
            )
        )


def test_tasks_are_found_below_their_kind_and_name_their_data(tmp_path):
    for name in ('segmentation/driving/a', 'dense/davis_dino', 'imagenet/knn', 'pretrain/b'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f'{name}.py').write_text('')
    assert known_tasks(tmp_path) == ['dense/davis_dino', 'driving/a', 'imagenet/knn']
    for task in known_tasks(tmp_path):
        assert task_path(task, tmp_path) is not None
    assert task_path('pretrain/b', tmp_path) is None  # no protocol
    assert task_parts('dense/davis_dino')[:3] == ['dense', 'davis', 'dino']
    assert {'defect', 'defect.py'} == set(task_parts('defect.py'))
    assert 'deep' not in task_parts('/deep/defect_v2.py')


def test_dry_run_prints_commands(checkpoint, capsys, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    arguments = ['run', '--checkpoint', checkpoint, 'random', '--tasks', 'driving/linear-bn']
    assert leaderboard.main([*arguments, '--arch', 'vit_tiny_patch16', '--dry-run']) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == 2
    assert all(line.startswith('python tools/train.py configs/segmentation/') for line in lines)
    assert f'--checkpoint {checkpoint}' in lines[0]
    assert '--checkpoint' not in lines[1]
