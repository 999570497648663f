"""A run that is told to end saves after its step, and goes on as if nothing had happened."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import BaseLoop, Runner
from torch import Tensor, nn

import moca.engine.exact_steps  # noqa: F401  (registers the sampler)
from moca.engine import checkpoints, interrupts
from moca.engine.checkpoints import AtomicCheckpointHook, latest_checkpoint
from moca.engine.cli import main_guard
from moca.engine.interrupts import Interrupted, saved_when_interrupted

STEPS = 6


class Line(BaseModel):
    """y = w x."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, inputs: Tensor, mode: str) -> dict[str, Tensor]:
        return dict(loss=(self.weight * inputs - 1).square().mean())


class Tell(Hook):
    """Sends signals to this process, and to the workers of its loader, during a step."""

    def __init__(self, step: int, numbers: tuple[int, ...]) -> None:
        self.step, self.numbers = step, numbers

    def before_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        if runner.iter + 1 == self.step:
            workers = multiprocessing.active_children()
            for number in self.numbers:
                for process in (os.getpid(), *(worker.pid for worker in workers)):
                    os.kill(process, number)


class Validation(BaseLoop):
    """Notes after which steps it is run."""

    def __init__(self, runner: Runner) -> None:
        self._runner, self.after = runner, []

    def run(self) -> None:
        self.after.append(self._runner.iter)


def build(folder: Path, workers: int = 0, tell: Tell | None = None, **train_cfg: Any) -> Runner:
    data = [dict(inputs=torch.tensor([0.1 * number])) for number in range(8)]
    latest = latest_checkpoint(folder) if folder.is_dir() else None
    runner = Runner(
        Line(),
        str(folder),
        train_dataloader=dict(
            dataset=data,
            batch_size=2,
            num_workers=workers,
            collate_fn=dict(type='default_collate'),
            sampler=dict(type='ExactSampler' if not train_cfg else 'DefaultSampler', shuffle=True),
        ),
        train_cfg=train_cfg or dict(type='IterBasedTrainLoop', max_iters=STEPS),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9)),
        default_hooks=dict(
            checkpoint=dict(type='AtomicCheckpointHook', interval=1000, by_epoch=False),
            runtime_info=dict(type='WatchTraining'),
        ),
        custom_hooks=[tell] if tell else [],
        resume=latest is not None,
        load_from=str(latest) if latest else None,
        randomness=dict(seed=0),
        experiment_name=f'{folder}{len(list(folder.glob("*")))}',
    )
    return runner


def trained(runner: Runner) -> float:
    with saved_when_interrupted(runner):
        runner.train()
    return runner.model.weight.item()


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_interrupted_ends_where_one_that_is_not_does(
    tmp_path: Path, number: int, capfd: Any
) -> None:
    runner = build(tmp_path / 'cut', 1, Tell(3, (number,)))
    before = signal.getsignal(number)
    assert main_guard(lambda: trained(runner))() == 128 + number
    assert signal.getsignal(number) is before
    said = capfd.readouterr().err.splitlines()
    assert said[-1].startswith(f'Interrupted. Saved: {tmp_path}/cut/iter_3.pth. Go on with: python')
    assert said[-1].endswith('--resume')
    resumed = build(tmp_path / 'cut')
    assert trained(resumed) == trained(build(tmp_path / 'whole'))


def test_ctrl_c_and_the_sigterm_of_a_launcher_are_one_order_and_the_same_signal_is_a_second(
    tmp_path: Path,
) -> None:
    with pytest.raises(Interrupted) as interrupted:
        trained(build(tmp_path / 'one', tell=Tell(2, (signal.SIGINT, signal.SIGTERM))))
    assert interrupted.value.code == 130
    assert (tmp_path / 'one/iter_2.pth').is_file()
    # Slurm tells every process, and a launcher its own again
    with pytest.raises(Interrupted, match=r'iter_2\.pth'):
        trained(build(tmp_path / 'again', tell=Tell(2, (signal.SIGTERM, signal.SIGTERM))))
    with pytest.raises(Interrupted, match='No checkpoint was written yet'):
        trained(build(tmp_path / 'two', tell=Tell(2, (signal.SIGINT, signal.SIGINT))))
    assert not (tmp_path / 'two/iter_2.pth').exists()


@pytest.mark.parametrize(
    ('given', 'shown'),
    [
        ('a.py', 'a.py --resume'),
        ('a.py --resume', 'a.py --resume'),
        ('--resume --seed 1', '--resume --seed 1'),
        ('a.py --resume old.pth', 'a.py --resume old.pth --resume'),
    ],
)
def test_what_was_saved_is_what_the_shown_command_goes_on_from(
    given: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('sys.argv', given.split())
    assert interrupts.resume_text('iter_9.pth').endswith(f'Go on with: python {shown}')


def test_steps_that_are_lost_are_said(tmp_path: Path) -> None:
    runner = build(tmp_path, type='IterBasedTrainLoop', max_iters=STEPS, val_interval=3)
    (hook,) = (hook for hook in runner.hooks if isinstance(hook, AtomicCheckpointHook))
    hook.interval = 2

    class Told(Validation):
        def run(self) -> None:
            for each in self._runner.hooks:
                if isinstance(each, interrupts._SaveWhenTold):
                    each.before_val(self._runner)
            os.kill(os.getpid(), signal.SIGTERM)

    runner._val_loop = Told(runner)
    with pytest.raises(
        Interrupted, match=r'last checkpoint is of a step before: .*/iter_2\.pth\. Go'
    ):
        trained(runner)
    by_epochs = build(tmp_path / 'epochs', by_epoch=True, max_epochs=3)
    by_epochs.train_loop._iter = 9  # of 4 steps in an epoch
    assert [interrupts.steps_since(by_epochs, name) for name in ('a/epoch_1.pth', 'x')] == [5, 0]


@pytest.mark.parametrize(('refused', 'newest'), [(9, 3), (3, 2), (1, None)])
def test_a_checkpoint_that_is_being_written_is_named_when_it_is_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: int, newest: int | None
) -> None:
    """Told at once in step 4 (by a second signal), while that of step 3 takes a while."""
    save = torch.save

    def slow(content: Any, file: Any) -> None:
        time.sleep(0.2)
        if content['meta']['iter'] >= refused:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(content, file)

    monkeypatch.setattr(checkpoints.torch, 'save', slow)
    step = min(refused, 3) + 1
    runner = build(tmp_path, tell=Tell(step, (signal.SIGINT, signal.SIGINT)))
    (hook,) = (hook for hook in runner.hooks if isinstance(hook, AtomicCheckpointHook))
    hook.interval = 1
    with pytest.raises(Interrupted) as interrupted:
        trained(runner)
    if newest is None:
        assert 'No checkpoint was written yet' in str(interrupted.value)
        assert latest_checkpoint(tmp_path) is None
        return
    assert f'{tmp_path}/iter_{newest}.pth. Go on with' in str(interrupted.value)
    path = latest_checkpoint(tmp_path)
    assert path == tmp_path / f'iter_{newest}.pth'
    held = torch.load(path, weights_only=False)['message_hub']
    assert held['runtime_info']['last_ckpt'] == str(path)  # as with mmengine


def test_a_loop_that_resumes_at_epochs_keeps_the_checkpoint_of_the_last(tmp_path: Path) -> None:
    cut = Tell(3, (signal.SIGTERM,))
    with pytest.raises(Interrupted, match='No checkpoint was written yet'):
        trained(build(tmp_path, tell=cut, by_epoch=True, max_epochs=2))
    assert not list(tmp_path.glob('*.pth'))


def test_several_processes_leave_after_the_same_step(monkeypatch: pytest.MonkeyPatch) -> None:
    shared: list[Tensor] = []
    hooks = [interrupts._SaveWhenTold(interrupts._Signals()) for _ in range(2)]
    monkeypatch.setattr(interrupts, 'get_world_size', lambda: 2)
    hooks[1]._signals.came.append(signal.SIGTERM)

    def agreed(step: int) -> list[int]:
        # the maximum of what both give, as a process group has it: each is asked twice
        found = []
        for share in (shared.append, lambda mine: mine.copy_(torch.stack(shared).amax(0))):
            found = []
            for hook in hooks:
                monkeypatch.setattr(interrupts, 'all_reduce', lambda mine, _, s=share: s(mine))
                looked = hook._looked, hook._next_look
                found.append(hook._agreed(step))
                if share == shared.append:
                    hook._looked, hook._next_look = looked
        return found

    assert agreed(0) == [signal.SIGTERM] * 2
    assert hooks[0]._next_look == hooks[1]._next_look > 0
    assert [hook._agreed(hooks[0]._next_look - 1) for hook in hooks] == [0, 0]


@pytest.mark.parametrize(
    ('told', 'left', 'options'),
    [
        (3, 3, {}),  # a validation follows
        (6, 6, {}),  # as it does the last step
        (4, 4, dict(by_epoch=True, max_epochs=2)),  # the end of an epoch of four steps
        (2, 4, dict(by_epoch=True, max_epochs=2)),  # which comes before the next look
    ],
)
def test_several_processes_look_before_they_take_no_step_for_long(
    told: int, left: int, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interrupts, 'get_world_size', lambda: 2)
    monkeypatch.setattr(interrupts, 'all_reduce', lambda *_: None)  # the other was told nothing
    monkeypatch.setattr(interrupts, '_SECONDS_BETWEEN_LOOKS', 1000)
    if not options:
        options = dict(type='IterBasedTrainLoop', max_iters=STEPS, val_interval=3)
    runner = build(tmp_path, tell=Tell(told, (signal.SIGTERM,)), **options)
    runner._val_loop = validation = Validation(runner)
    with pytest.raises(Interrupted):
        trained(runner)
    assert runner.iter + 1 == left
    assert validation.after == ([3] if left == 6 else [])
    assert (tmp_path / f'iter_{left}.pth').exists() == ('by_epoch' not in options)


def test_what_looks_at_an_epoch_is_ended_at_once(tmp_path: Path) -> None:
    class Looks(Hook):
        priority = 'LOWEST'
        passed = False

        def after_train_epoch(self, runner: Runner) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            self.passed = True

    runner = build(tmp_path, by_epoch=True, max_epochs=2)
    looks = Looks()
    runner.register_hook(looks)
    with pytest.raises(Interrupted):
        trained(runner)
    assert not looks.passed


@pytest.mark.parametrize('point', ['before_val', 'after_train_epoch'])
def test_a_signal_after_the_last_look_is_not_missed(point: str) -> None:
    signals = interrupts._Signals()
    hook = (interrupts._SaveWhenTold if point == 'before_val' else interrupts._EndLooks)(signals)
    signals.deferred = True
    getattr(hook, point)(None)
    assert not signals.deferred
    signals.deferred = True
    signals.handle(signal.SIGTERM, None)
    with pytest.raises(Interrupted):
        getattr(hook, point)(None)
