"""Two runs never share a work dir; what is left of one that is gone does not stop the next."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from moca.engine.work_dir import LOCK, alone_in_work_dir, check_unused
from moca.errors import UserError
from tests.configs.helpers import REPOSITORY, write_cityscapes
from tools import pretrain, train

# A run, and a worker that it has forked, both of which wait until they are killed.
RUN = """
import os, sys, time
from mmengine.config import Config
from moca.engine.work_dir import alone_in_work_dir
with alone_in_work_dir(Config(dict(work_dir=sys.argv[1]))):
    worker = os.fork()
    if worker:
        print(worker, flush=True)
    time.sleep(600)
"""


@contextmanager
def held(folder: Path) -> Iterator[tuple[int, int]]:
    """Another process at work in a folder; the numbers of it and of its worker."""
    with subprocess.Popen(
        [sys.executable, '-c', RUN, folder], stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        worker = int(run.stdout.readline())
        try:
            yield run.pid, worker
        finally:
            run.kill()
            os.kill(worker, signal.SIGKILL)


def test_a_work_dir_is_its_runs_own_until_that_is_gone(tmp_path: Path) -> None:
    cfg = Config(dict(work_dir=str(tmp_path / 'run')))
    with held(tmp_path / 'run') as (run, worker):
        for _ in range(2):  # an attempt does not take the lock away
            with (
                pytest.raises(UserError, match=rf'at work there \(process {run} on .*--work-dir'),
                alone_in_work_dir(cfg),
            ):
                pass
        os.kill(run, signal.SIGKILL)
        os.waitid(os.P_PID, run, os.WEXITED | os.WNOWAIT)
        os.kill(worker, 0)  # which is still there
        with alone_in_work_dir(cfg):
            assert f'process {os.getpid()} ' in (tmp_path / 'run' / LOCK).read_text()
    with alone_in_work_dir(cfg):  # and again, after a run that has ended
        pass


def test_neither_tool_trains_where_another_run_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_cityscapes(tmp_path / 'data')
    with held(tmp_path / 'run'):
        before = sorted(path.name for path in (tmp_path / 'run').iterdir())
        for tool, config in (
            (pretrain, 'demo/pretrain_moca.py'),
            (train, 'segmentation/driving/linear-bn.py'),
        ):
            arguments = [str(REPOSITORY / 'configs' / config), '--data-root', str(data)]
            assert tool.main([*arguments, '--work-dir', str(tmp_path / 'run')]) == 2
            assert 'another run is at work there' in capsys.readouterr().err
        assert sorted(path.name for path in (tmp_path / 'run').iterdir()) == before


def test_a_new_run_does_not_write_among_anothers_checkpoints(tmp_path: Path) -> None:
    cfg = Config(dict(work_dir=str(tmp_path / 'run')))
    check_unused(cfg)
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run/weights.pth').touch()  # of no run
    check_unused(cfg)
    (tmp_path / 'run/epoch_3.pth').write_bytes(b'cut off')  # --resume would pass it over
    check_unused(cfg)
    torch.save({}, tmp_path / 'run/epoch_2.pth')
    with pytest.raises(UserError, match=r'the newest is epoch_2\.pth\. --resume .* --work-dir'):
        check_unused(cfg)
    cfg.resume = True
    check_unused(cfg)


def test_pretraining_does_not_write_among_anothers_checkpoints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_cityscapes(tmp_path / 'data')
    (tmp_path / 'run').mkdir()
    torch.save({}, tmp_path / 'run/epoch_2.pth')
    arguments = ['--data-root', str(data), '--work-dir', str(tmp_path / 'run')]
    assert pretrain.main([str(REPOSITORY / 'configs/demo/pretrain_moca.py'), *arguments]) == 2
    assert 'the newest is epoch_2.pth' in capsys.readouterr().err


def test_only_the_first_process_holds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = Config(dict(work_dir=str(tmp_path / 'run'), launcher='slurm'))
    monkeypatch.setenv('SLURM_PROCID', '3')
    with alone_in_work_dir(cfg):
        assert not (tmp_path / 'run').exists()
    (tmp_path / 'run').mkdir()
    torch.save({}, tmp_path / 'run/epoch_2.pth')
    check_unused(cfg)  # and only the first reads what is there
    monkeypatch.setenv('SLURM_PROCID', '0')
    with pytest.raises(UserError, match='the newest is'):
        check_unused(cfg)


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    with (
        pytest.raises(UserError, match=r'file/run: no work dir can be made there'),
        alone_in_work_dir(Config(dict(work_dir=str(tmp_path / 'file' / 'run')))),
    ):
        pass
