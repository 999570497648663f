"""`make setup` before anything is installed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

INSTALL = Path(__file__).parents[1] / 'requirements' / 'install.sh'
TOOLS = '/usr/bin:/bin'


@pytest.mark.skipif(
    shutil.which('uv', path=TOOLS) is not None, reason='uv links from its own cache'
)
@pytest.mark.parametrize(
    ('full', 'remedy'),
    [('clone', 'clone where there is room'), ('downloads', 'set TMPDIR to a folder with room')],
)
def test_a_full_disk_is_told_before_the_download(tmp_path: Path, full: str, remedy: str) -> None:
    folders = {name: tmp_path / name for name in ('clone', 'downloads')}
    (folders['clone'] / 'requirements').mkdir(parents=True)
    folders['downloads'].mkdir()
    shutil.copy(INSTALL, folders['clone'] / 'requirements')
    df = tmp_path / 'bin' / 'df'
    df.parent.mkdir()
    # POSIX's two lines: the fourth field of the second is the free room in KiB.
    df.write_text(
        f'#!/bin/sh\necho heading\n'
        f'case "$2" in {folders[full]}) free=1000000;; *) free=99000000;; esac\n'
        f'echo "/dev/disk 1 1 $free 1% /"\n'
    )
    df.chmod(0o755)
    done = subprocess.run(
        ['bash', folders['clone'] / 'requirements' / 'install.sh'],
        env=os.environ
        | {
            'PATH': f'{df.parent}:{TOOLS}',
            'PYTHON': sys.executable,
            'TMPDIR': str(folders['downloads']),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert f'{folders[full]} has 1 GB free' in done.stderr
    assert remedy in done.stderr
    assert 'installing' not in done.stdout


def test_other_versions_need_room_as_well(tmp_path: Path) -> None:
    (tmp_path / 'requirements').mkdir()
    script = shutil.copy(INSTALL.with_name('test_versions.sh'), tmp_path / 'requirements')
    df = tmp_path / 'df'
    df.write_text('#!/bin/sh\necho heading\necho /dev/disk 1 1 9000000 1% /\n')
    df.chmod(0o755)
    done = subprocess.run(
        ['bash', script, 'oldest'],
        env=os.environ | {'PATH': f'{tmp_path}:{TOOLS}', 'PYTHON': sys.executable},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert f'.venv-oldest and its downloads take 12 GB, {tmp_path} has 9 free' in done.stderr
    assert not (tmp_path / '.venv-oldest').exists()


@pytest.mark.parametrize('which', ['oldest', 'newest'])
def test_other_versions_are_those_that_the_package_admits(which: str) -> None:
    folder = INSTALL.parent
    lower = {
        line.partition('>=')[0]: line.partition('>=')[2].partition(',')[0]
        for line in (folder / 'runtime.txt').read_text().splitlines()
        if '>=' in line and not line.startswith('#')
    }
    lines = (folder / f'{which}.txt').read_text().splitlines()
    for line in filter(lambda line: not line.startswith('#'), lines):
        name, _, version = line.replace('>=', '==').partition('==')
        release = version.partition(',')[0].split('.')
        assert release[: len(lower[name].split('.'))] == lower[name].split('.'), line
