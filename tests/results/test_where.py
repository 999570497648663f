"""Where runs go: GPUs and threads of this machine, commands of launchers, jobs of a cluster."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest
import torch

from moca.errors import UserError
from moca.results.jobs import Job
from moca.results.launching import command_of, places
from moca.results.slurm import extra_options, minutes
from moca.results.where import check_place, parameters_of, printed
from tools import leaderboard

RUN = ['run', '--checkpoint', 'random', '--tasks', 'driving/linear']


def arguments(*words: str):
    return leaderboard.parse_args([*RUN, *words])


@pytest.mark.parametrize(
    ('visible', 'count', 'gpus', 'expected'),
    [
        (None, 2, 1, ['0', '1']),
        ('GPU-a, 7', 2, 1, ['GPU-a', '7']),
        ('4,5,6,7', 4, 2, ['4,5', '6,7']),
        ('3,9,5', 3, 1, ['3', '9']),
    ],
)
def test_each_run_has_gpus_of_its_own(visible, count, gpus, expected, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: count)
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    if visible is not None:
        monkeypatch.setenv('CUDA_VISIBLE_DEVICES', visible)
    assert [each['CUDA_VISIBLE_DEVICES'] for each in places(2, gpus)] == expected
    with pytest.raises(UserError, match=rf'{count} are visible. Give --parallel {count // gpus}'):
        places(count + 1, gpus)
    assert places(1, 8) == [{}], 'a single run has the whole machine'


def test_without_gpus_threads_are_shared_out(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 0)
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: set(range(13)))
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    assert places(3, 1) == [{'OMP_NUM_THREADS': '4'}] * 3
    assert places(40, 1)[0] == {'OMP_NUM_THREADS': '1'}
    monkeypatch.setenv('OMP_NUM_THREADS', '2')
    assert places(3, 1) == [{}] * 3, 'what was chosen stays'


def test_a_dry_run_prints_what_a_launcher_would_start(tmp_path: Path) -> None:
    jobs = [Job('a b', tmp_path / 'a b', ('c.py', '--work-dir', 'a b'), 'a.pth')]
    said = {
        launcher: list(printed(jobs, 'train.py', arguments('--launcher', launcher, '--gpus', '16')))
        for launcher in ('none', 'slurm', 'pytorch')
    }
    assert said['none'] == ["python tools/train.py c.py --work-dir 'a b'"]
    assert said['pytorch'] == [
        'torchrun --standalone --nproc_per_node=16 tools/train.py --launcher pytorch c.py '
        "--work-dir 'a b'"
    ]
    # as tools/slurm_train.sh, which asks for two machines with eight GPUs each
    assert said['slurm'] == [
        'srun --kill-on-bad-exit=1 --ntasks=16 --ntasks-per-node=8 --gres=gpu:8 '
        "--cpus-per-task=11 python tools/train.py --launcher slurm c.py --work-dir 'a b'"
    ]
    with pytest.raises(UserError, match='--gpus 12: machines with 8 GPUs'):
        command_of('train.py', 'slurm', 12)


def test_a_dry_run_prints_what_would_be_submitted(tmp_path: Path) -> None:
    class Student(Job):
        needs = (tmp_path / 'b',)

    jobs = [Job(name, tmp_path / name, (f'{name}.py',), 'a.pth') for name in 'ab']
    args = arguments(
        *('--on', 'slurm', '--partition', 'long', '--time', '4:00:00', '--parallel', '2'),
        *('--sbatch', 'qos=high'),
    )
    lines = list(
        printed([*jobs, Student('c', tmp_path / 'c', ('c.py',), 'a.pth')], 'train.py', args)
    )
    assert lines[1:3] == ['python tools/train.py a.py', 'python tools/train.py b.py']
    array, dependent = (shlex.split(line[2:]) for line in (lines[0], lines[3]))
    assert {'--array=0-1%2', '--partition=long', '--time=240', '--gres=gpu:1'} <= set(array)
    assert {'--cpus-per-task=11', '--qos=high'} <= set(array)
    assert '--dependency=afterok:(b)' in dependent
    assert lines[4] == 'python tools/train.py c.py'


@pytest.mark.parametrize(
    ('words', 'expected'),
    [
        ((), dict(nodes=1, ntasks_per_node=1, gres='gpu:1', cpus_per_task=11)),
        (
            ('--launcher', 'pytorch', '--gpus', '4', '--cpus', '6'),
            dict(nodes=1, ntasks_per_node=1, gres='gpu:4', cpus_per_task=24),
        ),
        (
            ('--launcher', 'slurm', '--gpus', '8', '--gpus-per-node', '4'),
            dict(nodes=2, ntasks_per_node=4, gres='gpu:4', cpus_per_task=11),
        ),
    ],
)
def test_what_a_job_asks_for(words, expected) -> None:
    found = parameters_of(arguments('--on', 'slurm', *words))
    assert {name: found[name] for name in expected} == expected
    assert found['time'] == 24 * 60


@pytest.mark.parametrize(
    ('text', 'expected'),
    [('90', 90), ('90:30', 91), ('1:30:00', 90), ('2-0', 2880), ('1-2:3', 1563), ('1-0:0:1', 1441)],
)
def test_time_limits_are_those_of_sbatch(text: str, expected: int) -> None:
    assert minutes(text) == expected


def test_what_does_not_fit_is_refused() -> None:
    for words, said in {
        ('--partition', 'p'): '--partition: of a cluster. Give --on slurm',
        ('--cpus', '4'): '--cpus: of a cluster',
        ('--launcher', 'slurm', '--parallel', '2'): 'srun waits for room by itself',
        ('--on', 'slurm', '--launcher', 'pytorch', '--gpus', '16'): 'Give --launcher slurm',
    }.items():
        with pytest.raises(UserError, match=said):
            check_place(arguments(*words))
    check_place(arguments('--launcher', 'slurm', '--cpus', '4'))
    for wrong in ('soon', '1:2:3:4', '0', '1-'):
        with pytest.raises(UserError, match=f'--time {wrong}'):
            minutes(wrong)
    with pytest.raises(UserError, match='--sbatch =x'):
        extra_options(['=x'])
