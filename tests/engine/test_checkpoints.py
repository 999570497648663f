"""Checkpoints: whole or absent, damaged ones passed over, other runs' left alone."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.dataset import DefaultSampler
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader

from moca.engine.checkpoints import (
    CheckpointNotWritten,
    check_fit,
    latest_checkpoint,
    run_checkpoints,
)
from moca.errors import CheckpointMismatch, UserError
from moca.records.whole_files import write_atomically


class Line(BaseModel):
    """y = w x, whose loss can be made infinite."""

    def __init__(self, width: int = 1, scale: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.scale = scale

    def forward(self, inputs: Tensor, mode: str) -> dict[str, Tensor]:
        return dict(loss=(self.weight * inputs * self.scale).square().mean())


def run(folder: Path, epochs: int, keep: int, resume: bool = False, **model: Any) -> Runner:
    line = Line(**model)
    data = [dict(inputs=torch.ones(1)) for _ in range(4)]
    runner = Runner(
        line,
        str(folder),
        train_dataloader=DataLoader(data, 2, sampler=DefaultSampler(data)),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=OptimWrapper(torch.optim.SGD(line.parameters(), lr=0.1)),
        default_hooks=dict(
            checkpoint=dict(type='AtomicCheckpointHook', interval=1, max_keep_ckpts=keep),
            runtime_info=dict(type='WatchTraining'),
        ),
        resume=resume,
        load_from=str(latest_checkpoint(folder)) if resume else None,
        experiment_name=f'line{epochs}{keep}{resume}{folder.name}{len(list(folder.glob("*")))}',
    )
    runner.train()
    return runner


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.glob('*.pth')}


def test_newest_checkpoints_are_kept(tmp_path):
    run(tmp_path, 4, keep=2)
    assert names(tmp_path) == {'epoch_3.pth', 'epoch_4.pth'}
    run(tmp_path, 6, keep=2, resume=True)
    assert names(tmp_path) == {'epoch_5.pth', 'epoch_6.pth'}


def test_a_new_run_leaves_another_runs_checkpoints_alone(tmp_path):
    run(tmp_path, 6, keep=1)
    run(tmp_path, 3, keep=1)
    assert names(tmp_path) == {'epoch_6.pth', 'epoch_3.pth'}


def test_the_old_checkpoint_is_there_while_the_new_one_is_written(tmp_path, monkeypatch):
    run(tmp_path, 1, keep=1)

    def fail(*_: Any) -> None:
        assert 'epoch_1.pth' in names(tmp_path)
        raise OSError('killed')

    monkeypatch.setattr(os, 'replace', fail)
    with pytest.raises(CheckpointNotWritten, match=r'epoch_2\.pth: .*\(killed\).*--resume'):
        run(tmp_path, 2, keep=1, resume=True)
    assert names(tmp_path) == {'epoch_1.pth'}
    assert not list(tmp_path.glob('.*partial'))


def test_a_disk_that_is_full_within_a_file_names_the_checkpoint(tmp_path):
    run(tmp_path, 1, keep=2, width=100_000)  # far larger than the log
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = (tmp_path / 'epoch_1.pth').stat().st_size
    for part in (size // 2, size - 200):  # within a tensor, and within the directory at the end
        resource.setrlimit(resource.RLIMIT_FSIZE, (part, hard))
        try:
            with pytest.raises(CheckpointNotWritten, match=r'epoch_2\.pth: this checkpoint could'):
                run(tmp_path, 2, keep=2, resume=True, width=100_000)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert names(tmp_path) == {'epoch_1.pth'}
        assert not list(tmp_path.glob('.*partial'))


def test_a_checkpoint_that_was_not_noted_is_by_the_resumed_run(tmp_path):
    run(tmp_path, 2, keep=3)
    noted = tmp_path / 'last_checkpoint'
    noted.write_text(str(tmp_path / 'epoch_1.pth'))  # killed between the two writes
    run(tmp_path, 2, keep=3, resume=True)  # has no step to take
    assert noted.read_text() == str(tmp_path / 'epoch_2.pth')


def test_truncated_newest_checkpoint_is_passed_over(tmp_path):
    run(tmp_path, 3, keep=3)
    newest = tmp_path / 'epoch_3.pth'
    newest.write_bytes(newest.read_bytes()[:-200])
    assert latest_checkpoint(tmp_path) == tmp_path / 'epoch_2.pth'
    flipped = bytearray((tmp_path / 'epoch_2.pth').read_bytes())
    flipped[len(flipped) // 2] ^= 0xFF
    (tmp_path / 'epoch_2.pth').write_bytes(bytes(flipped))
    assert latest_checkpoint(tmp_path) in (tmp_path / 'epoch_1.pth', tmp_path / 'epoch_2.pth')


@pytest.mark.parametrize(
    ('names', 'noted', 'expected'),
    [
        # oldest first, by their times
        (['iter_2', 'iter_4'], None, ['iter_4', 'iter_2']),
        (['iter_2', 'iter_4'], 'iter_4', ['iter_4', 'iter_2']),
        (['iter_2', 'iter_4'], 'iter_2', ['iter_4', 'iter_2']),  # killed before it was noted
        (['iter_4', 'iter_2'], 'iter_4', ['iter_4', 'iter_2']),  # the clock has gone back
        (['iter_4', 'iter_2', 'iter_3'], 'iter_4', ['iter_4', 'iter_3', 'iter_2']),
        (['iter_9', 'iter_2', 'iter_4'], 'iter_4', ['iter_4', 'iter_2', 'iter_9']),  # from 2 on
        (['epoch_1', 'iter_7'], 'epoch_1', ['iter_7', 'epoch_1']),
        (['iter_2', 'iter_4'], 'iter_8', ['iter_4', 'iter_2']),
        (['iter_2', 'iter_4'], '', ['iter_4', 'iter_2']),
    ],
)
def test_the_newest_is_known_whatever_the_clock_says(tmp_path, names, noted, expected):
    for place, name in enumerate(names):
        (tmp_path / f'{name}.pth').touch()
        os.utime(tmp_path / f'{name}.pth', (1000 + place, 1000 + place))
    if noted is not None:
        (tmp_path / 'last_checkpoint').write_text(noted and f'elsewhere/run/{noted}.pth')
    assert [path.stem for path in run_checkpoints(tmp_path)] == expected


def test_no_checkpoint_is_none(tmp_path):
    assert latest_checkpoint(tmp_path) is None


def test_resume_from_another_model_is_an_error(tmp_path):
    run(tmp_path, 1, keep=1)
    with pytest.raises(CheckpointMismatch, match=r'weight \(\[1\] in the file, \[3\] here\)'):
        run(tmp_path, 2, keep=1, resume=True, width=3)


def test_check_fit_names_what_is_absent():
    with pytest.raises(CheckpointMismatch, match=r'bias \(absent in the file, \[2\] here\)'):
        check_fit(nn.Linear(2, 2), {'weight': torch.zeros(2, 2)}, 'x.pth')


def test_failed_write_leaves_the_old_content(tmp_path, monkeypatch):
    path = tmp_path / 'file'
    write_atomically(path, b'old')
    monkeypatch.setattr(os, 'replace', lambda *_: (_ for _ in ()).throw(OSError()))
    with pytest.raises(OSError):  # noqa: PT011  (which one is the point of the line above)
        write_atomically(path, b'new')
    assert path.read_bytes() == b'old'
    assert [p.name for p in tmp_path.iterdir()] == ['file']


def test_a_loss_that_is_no_number_stops_the_run_before_its_checkpoint(tmp_path):
    with pytest.raises(UserError, match=r'step 1: loss is inf at learning rate 0\.1'):
        run(tmp_path, 1, keep=1, scale=1e30)
    assert names(tmp_path) == set()
