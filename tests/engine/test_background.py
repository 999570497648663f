"""A thread writes checkpoints while training goes on: what it writes, and when it is waited for."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.dataset import DefaultSampler
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader

from moca.engine import checkpoints
from moca.engine.background import BackgroundJob, finish_jobs
from moca.engine.checkpoints import CheckpointNotWritten, latest_checkpoint
from moca.engine.snapshot import HostCopies
from moca.errors import UserError


class Line(BaseModel):
    """y = w x, with a buffer that every step moves."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.register_buffer('steps', torch.zeros(()))

    def forward(self, inputs: Tensor, mode: str) -> dict[str, Tensor]:
        self.steps += 1
        return dict(loss=(self.weight * inputs).square().mean())


class Late(Hook):
    """As a run's record, writes into the checkpoint after all others; calls back after a step."""

    priority = 'LOWEST'

    def __init__(self, step: Callable[[int], None]) -> None:
        self.step = step

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint['late'] = runner.iter

    def after_train_iter(self, runner: Any, *_: Any, **__: Any) -> None:
        self.step(runner.iter + 1)


def run(
    folder: Path,
    step: Callable[[int], None] = lambda _: None,
    resume: Path | None = None,
    **hook: Any,
) -> Runner:
    """Six steps of AdamW, with a checkpoint after each if nothing else is said."""
    torch.manual_seed(0)
    line = Line()
    data = [dict(inputs=torch.full((1,), 1.0 + number)) for number in range(12)]
    hook = dict(by_epoch=False, interval=1) | hook
    runner = Runner(
        line,
        str(folder),
        train_dataloader=DataLoader(data, 2, sampler=DefaultSampler(data, shuffle=False)),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=OptimWrapper(torch.optim.AdamW(line.parameters(), lr=0.1)),
        default_hooks=dict(checkpoint=dict(type='AtomicCheckpointHook', **hook)),
        custom_hooks=[Late(step)],
        resume=resume is not None,
        load_from=str(resume) if resume else None,
        experiment_name=f'{folder.parent.name}{folder.name}',
    )
    runner.train()
    return runner


def read(folder: Path, step: int) -> dict[str, Any]:
    return torch.load(folder / f'iter_{step}.pth', weights_only=False)


def slow_save(monkeypatch: pytest.MonkeyPatch, until: threading.Event) -> list[str]:
    """Writing waits for an event; returns the names of the threads that write."""
    save, threads = torch.save, []

    def wait_and_save(content: Any, file: Any) -> None:
        threads.append(threading.current_thread().name)
        assert until.wait(120)
        save(content, file)

    monkeypatch.setattr(checkpoints.torch, 'save', wait_and_save)
    return threads


def test_training_goes_on_and_what_is_written_is_of_the_step_before(tmp_path, monkeypatch):
    run(tmp_path / 'plain')
    release, seen = threading.Event(), []

    def step(number: int) -> None:
        # the checkpoint of step 2 is in the making; step 3 goes on without it
        seen.append((tmp_path / 'late' / 'iter_2.pth').exists())
        if number == 3:
            release.set()

    threads = slow_save(monkeypatch, release)
    run(tmp_path / 'late', step, interval=2)
    assert seen[:3] == [False] * 3
    assert len(set(threads)) == 1
    assert threading.current_thread().name not in threads
    for number in (2, 4, 6):
        ours, plain = (read(tmp_path / name, number) for name in ('late', 'plain'))
        assert ours.keys() == plain.keys()
        assert ours['late'] == number - 1
        assert ours['meta']['iter'] == number
        assert float(ours['state_dict']['steps']) == number
        torch.testing.assert_close(ours['state_dict'], plain['state_dict'], rtol=0, atol=0)
        torch.testing.assert_close(ours['optimizer'], plain['optimizer'], rtol=0, atol=0)
    assert (tmp_path / 'late' / 'last_checkpoint').read_text().endswith('iter_6.pth')


def test_one_checkpoint_is_written_at_a_time_and_the_end_waits_for_the_last(tmp_path, monkeypatch):
    save, at_work, most = torch.save, [], []

    def watched(content: Any, file: Any) -> None:
        at_work.append(1)
        most.append(len(at_work))
        time.sleep(0.05)
        save(content, file)
        at_work.pop()

    monkeypatch.setattr(checkpoints.torch, 'save', watched)
    run(tmp_path)
    assert most == [1] * 6
    assert not at_work
    assert latest_checkpoint(tmp_path) == tmp_path / 'iter_6.pth'


def test_what_keeps_a_checkpoint_from_being_written_ends_the_run(tmp_path, monkeypatch):
    save, steps = torch.save, []

    def full(content: Any, file: Any) -> None:
        if content['meta']['iter'] == 3:
            raise OSError(28, 'No space left on device')
        save(content, file)

    def step(number: int) -> None:
        steps.append(number)
        finish_jobs()  # so that the next step sees how it went

    monkeypatch.setattr(checkpoints.torch, 'save', full)
    with pytest.raises(CheckpointNotWritten, match=r'iter_3\.pth.*No space left.*--resume'):
        run(tmp_path, step, max_keep_ckpts=1)
    assert steps == [1, 2, 3]
    assert [path.name for path in tmp_path.glob('*.pth')] == ['iter_2.pth']
    assert not list(tmp_path.glob('.*partial'))


def stuck(folder: Path) -> None:
    """A run whose third checkpoint is never written to its end."""
    save = torch.save

    def half(content: Any, file: Any) -> None:
        if content['meta']['iter'] == 3:
            file.write(b'half of it')
            file.flush()
            threading.Event().wait()
        save(content, file)

    checkpoints.torch.save = half
    run(folder, max_keep_ckpts=1)


def test_a_kill_during_a_write_loses_that_checkpoint_alone(tmp_path):
    # not forked: autograd's threads, which another test may have started, do not survive that
    process = multiprocessing.get_context('spawn').Process(target=stuck, args=(tmp_path,))
    process.start()
    until = time.monotonic() + 300
    while not list(tmp_path.glob('.iter_3.pth.*.partial')) and time.monotonic() < until:
        time.sleep(0.02)
    process.kill()
    process.join()
    assert list(tmp_path.glob('.iter_3.pth.*.partial'))
    assert latest_checkpoint(tmp_path) == tmp_path / 'iter_2.pth'
    run(tmp_path, resume=tmp_path / 'iter_2.pth', max_keep_ckpts=1)
    # mmengine's loop begins the epoch anew: two steps and six
    assert [path.name for path in tmp_path.glob('*.pth')] == ['iter_8.pth']
    assert read(tmp_path, 8)['meta']['iter'] == 8
    assert not list(tmp_path.glob('.*partial'))


def test_minutes_beside_epochs(tmp_path, monkeypatch):
    clock = iter(range(0, 10_000, 25))  # seconds at each look
    monkeypatch.setattr(checkpoints.time, 'monotonic', lambda: next(clock))
    run(tmp_path / 'between', interval=-1, save_last=False, by_epoch=True, minutes=1)
    (path,) = (tmp_path / 'between').glob('*.pth')  # each takes the place of the one before
    step = int(path.stem.removeprefix('iter_'))
    assert step > 2
    meta = read(tmp_path / 'between', step)['meta']
    assert (meta['iter'], meta['epoch']) == (step, 0)
    run(tmp_path / 'beside', interval=1, by_epoch=True, minutes=1, max_keep_ckpts=1)
    assert [path.name for path in (tmp_path / 'beside').glob('*.pth')] == ['epoch_1.pth']


def test_minutes_are_above_zero():
    with pytest.raises(UserError, match=r'checkpoint\.minutes=0'):
        checkpoints.AtomicCheckpointHook(minutes=0)


def test_the_best_and_the_last_are_both_kept(tmp_path):
    hook = checkpoints.AtomicCheckpointHook(interval=1, max_keep_ckpts=1)
    runner = run(tmp_path, by_epoch=True, max_keep_ckpts=1)
    hook.before_train(runner)
    for _ in range(2):  # as `save_best` does: the same step again
        hook._save_checkpoint_with_step(runner, 1, meta={})
        hook._writer.wait()
    assert [path.name for path in tmp_path.glob('*.pth')] == ['epoch_1.pth']


def test_copies_are_made_once_and_never_of_copies():
    weight, copies = torch.arange(6.0).reshape(2, 3), HostCopies()
    with copies:
        first, again, part = weight.cpu(), weight.detach().cpu(), weight[:1].cpu()
        whole = torch.ones(1).expand(4).cpu()
        assert first.cpu() is first
    weight += 1
    assert again is first
    assert first.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert part.tolist() == [[0, 1, 2]]
    assert whole.tolist() == [1] * 4
    assert torch.ones(2).cpu().tolist() == [1, 1]  # outside, as ever


def test_an_error_of_a_job_is_raised_once():
    job = BackgroundJob()

    def fail() -> None:
        raise ValueError('no')

    job.start(fail)
    with pytest.raises(ValueError, match='no'):
        job.wait()
    job.wait()
    job.check()


def test_leaving_waits_for_jobs_but_not_for_ever(capsys):
    job, release = BackgroundJob(), threading.Event()
    job.start(lambda: release.wait(120) and None)
    since = time.monotonic()
    finish_jobs(0.1)
    assert 0.1 <= time.monotonic() - since < 60
    assert 'still being written after 0 s' in capsys.readouterr().err
    release.set()
    finish_jobs()
    assert not capsys.readouterr().err
    job.wait()
