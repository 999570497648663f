"""The page about a GPU: what it asks for, and what it makes of failures, with a stand-in python."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tools.benchmarks.__main__ import parse_args

ROOT = Path(__file__).parents[2]
# does at once what takes minutes, and says what it was asked for
STAND_IN = r"""#!/usr/bin/env bash
case "$*" in
    *is_available*) echo "${FAKE_DEVICE:-cpu}" ;;
    *get_device_name*) echo 'Some Card' ;;
    *torch.__version__*) echo 9.9 ;;
    *make_images*) ;;
    *'import json'*) exec python3 "$@" ;;
    *tests.replay*) echo "replayed: $*"; exit "${FAKE_REPLAY:-0}" ;;
    *tools/pretrain.py*)
        while [ "$1" != --work-dir ]; do shift; done
        if [ -e "$2/iter_5.pth" ]; then
            # a zombie, whose parent was killed with it, is at work no more
            if grep -q 'State:.[^ZX]' "/proc/$(cat "$2/process")/status" 2> /dev/null; then
                echo 'still at work'
                exit 1
            fi
            echo 'Training: 12 steps of 16 images, from step 5 on, 64 images'
            piece=second first=6 last=12
        else
            piece=first first=1 last=6
        fi
        mkdir -p "$2/$piece/vis_data"
        echo $$ > "$2/process"
        for step in $(seq $first $last); do
            loss=${FAKE_LOSS:-$((20 - step))}
            echo "{\"step\": $step, \"loss\": $loss}" >> "$2/$piece/vis_data/scalars.json"
        done
        [ $piece = second ] && exit 0
        touch "$2/iter_5.pth"
        sleep 600
        ;;
    *) echo "ran: $*" ;;
esac
"""


@pytest.fixture(scope='module')
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp('bin') / 'python'
    program.write_text(STAND_IN)
    program.chmod(0o755)
    return program


def check(python: Path, folder: Path, **variables: str) -> tuple[int, str]:
    environment = {'PATH': os.environ['PATH'], 'PYTHON': str(python), **variables}
    command = ['bash', str(ROOT / 'tools/gpu_check.sh'), str(folder)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    return result.returncode, (folder / 'page.md').read_text()


def test_a_machine_without_a_gpu(python: Path, tmp_path: Path) -> None:
    status, page = check(python, tmp_path / 'a folder')
    assert status == 0, page
    assert page.startswith('# no GPU, ')
    assert 'torch 9.9' in page
    sections = [line[3:] for line in page.splitlines() if line.startswith('## ')]
    assert sections == [
        *('replay', 'replay-bf16', 'moca-4', 'pretraining', 'saving', 'logging', 'views'),
        *('segmentor', 'slide', 'detector'),
    ]
    assert 'from step 5 on' in page
    assert '12 steps; loss 17.0000 in the first five, 10.0000 in the last' in page
    assert 'configs/pretrain/moca_small.py --batch-size 4' in page
    assert (tmp_path / 'a folder' / 'views.txt').read_text().startswith('ran: ')
    for line in page.splitlines():
        if 'tools.benchmarks' in line:  # ran: -m tools.benchmarks ...
            parse_args(line.split()[3:])


def test_a_gpu(python: Path, tmp_path: Path) -> None:
    status, page = check(python, tmp_path, FAKE_DEVICE='cuda')
    assert status == 0, page
    assert page.startswith('# Some Card\n')
    for name in ('moca-64', 'moca-256', 'moca-256-compiled', 'tests', 'mae-256', 'can-256'):
        assert f'\n## {name}\n' in page
    assert '--device cuda --compile' in page
    assert '-m pytest -q -m gpu' in page
    told = [line.split()[3:] for line in page.splitlines() if 'tools.benchmarks' in line]
    assert len(told) == 20
    for words in told:
        parse_args(words)


@pytest.mark.parametrize(
    ('variables', 'said'),
    [
        (dict(FAKE_REPLAY='1'), 'FAILED with status 1'),
        (dict(FAKE_LOSS='7'), 'FAILED'),
    ],
)
def test_failures(python: Path, tmp_path: Path, variables: dict[str, str], said: str) -> None:
    status, page = check(python, tmp_path, **variables)
    assert status == 1
    assert said in page
    assert '## detector' in page  # all the same


def test_what_no_time_is_left_for_is_named(python: Path, tmp_path: Path) -> None:
    status, page = check(python, tmp_path, MINUTES='0')
    assert status == 1  # what the verdict depends on was not looked at
    assert page.count('Left out: no time was left.') == 9
