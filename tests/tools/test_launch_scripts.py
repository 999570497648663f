"""mm's launch scripts: what they hand to torchrun and srun, seen by programs of these names."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('bin')
    for name in ('torchrun', 'srun'):
        program = folder / name
        program.write_text(
            '#!/usr/bin/env bash\nprintf "%s\\n" "$(basename "$0")" "$@" "$PYTHONPATH"'
        )
        program.chmod(0o755)
    return folder


def launch(programs: Path, script: str, *words: str, **variables: str) -> list[str]:
    environment = {'PATH': f'{programs}:{os.environ["PATH"]}', **variables}
    command = [str(ROOT / 'tools' / f'{script}.sh'), *words]
    result = subprocess.run(
        command, env=environment, cwd='/', capture_output=True, text=True, check=True
    )
    *words_given, python_path = result.stdout.splitlines()
    assert python_path.split(':')[0] == str(ROOT)
    return words_given


@pytest.mark.parametrize('tool', ['train', 'pretrain'])
def test_several_gpus(programs: Path, tool: str) -> None:
    words = launch(programs, f'dist_{tool}', 'my config.py', '4', '--amp', '--work-dir', 'a b')
    assert words == [
        *('torchrun', '--nnodes=1', '--node_rank=0', '--nproc_per_node=4'),
        *('--master_addr=127.0.0.1', '--master_port=29500', f'{ROOT}/tools/{tool}.py'),
        *('my config.py', '--launcher', 'pytorch', '--amp', '--work-dir', 'a b'),
    ]


def test_several_machines(programs: Path) -> None:
    variables = dict(NNODES='2', NODE_RANK='1', MASTER_ADDR='node0', PORT='29501')
    words = launch(programs, 'dist_train', 'c.py', '8', **variables)
    assert words[1:6] == [
        *('--nnodes=2', '--node_rank=1', '--nproc_per_node=8'),
        *('--master_addr=node0', '--master_port=29501'),
    ]


def test_testing_has_the_checkpoint_second_as_mms(programs: Path) -> None:
    words = launch(programs, 'dist_test', 'c.py', 'iter_9.pth', '2', '--show')
    assert words[3] == '--nproc_per_node=2'
    assert words[6:] == [
        *(f'{ROOT}/tools/test.py', 'c.py', '--launcher', 'pytorch', 'iter_9.pth', '--show')
    ]


@pytest.mark.parametrize(
    ('variables', 'gpus', 'per_node', 'cpus'),
    [
        ({}, 8, 8, 11),
        (dict(GPUS='4'), 4, 4, 11),
        (dict(GPUS='16', CPUS_PER_TASK='6'), 16, 8, 6),
        (dict(GPUS='16', GPUS_PER_NODE='4'), 16, 4, 11),
    ],
)
@pytest.mark.parametrize('tool', ['train', 'pretrain'])
def test_slurm(
    programs: Path, tool: str, variables: dict[str, str], gpus: int, per_node: int, cpus: int
) -> None:
    words = launch(
        programs,
        f'slurm_{tool}',
        *('long', 'my job', 'c.py', '--resume'),
        **variables,
        SRUN_ARGS='--qos=high --time=1:00',
    )
    assert words == [
        *('srun', '--partition=long', '--job-name=my job', f'--gres=gpu:{per_node}'),
        *(f'--ntasks={gpus}', f'--ntasks-per-node={per_node}', f'--cpus-per-task={cpus}'),
        *('--kill-on-bad-exit=1', '--qos=high', '--time=1:00', 'python', '-u'),
        *(f'{ROOT}/tools/{tool}.py', 'c.py', '--launcher', 'slurm', '--resume'),
    ]


@pytest.mark.parametrize(
    ('script', 'words'),
    [
        ('dist_train', ['c.py']),
        ('dist_pretrain', ['c.py', '--amp']),
        ('dist_test', ['c.py', '4']),
        ('slurm_train', ['partition', 'c.py']),
        ('slurm_pretrain', []),
    ],
)
def test_too_few_words(programs: Path, script: str, words: list[str]) -> None:
    with pytest.raises(subprocess.CalledProcessError) as error:
        launch(programs, script, *words)
    assert error.value.returncode == 2
    assert error.value.stderr.startswith(f'usage: tools/{script}.sh ')
