"""What a run reports: the same numbers as mmengine's own bookkeeping, and losses gone wrong."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from moca.engine.watch import WatchTraining
from moca.errors import UserError
from moca.records.run_logs import read_curves
from tests.engine.test_accumulate import config, train
from tests.processes import run_processes


def logged(cfg: Config, hook: str) -> list[dict[str, Any]]:
    cfg.default_hooks.runtime_info = dict(type=hook)
    cfg.default_hooks.logger = dict(type='LoggerHook', interval=3, log_metric_by_epoch=False)
    cfg.log_processor = dict(by_epoch=False, window_size=2)
    cfg.optim_wrapper.clip_grad = dict(max_norm=0.5)
    cfg.experiment_name += hook
    train(cfg)
    (scalars,) = Path(cfg.work_dir).glob('*/vis_data/scalars.json')
    return [json.loads(line) for line in scalars.read_text().splitlines()]


def test_the_log_has_the_numbers_that_mmengine_logs(tmp_path: Path) -> None:
    expected = logged(config(tmp_path / 'mmengine', 8, steps=12), 'RuntimeInfoHook')
    ours = logged(config(tmp_path / 'ours', 8, steps=12), 'WatchTraining')
    assert len(ours) == len(expected) == 4
    for mine, theirs in zip(ours, expected, strict=True):
        assert mine['images_per_second'] > 0
        for name in ('loss', 'grad_norm', 'lr', 'iter'):
            assert mine[name] == pytest.approx(theirs[name], rel=1e-6), name


def test_the_last_step_has_a_line(tmp_path: Path) -> None:
    cfg = config(tmp_path, 8, steps=11)
    cfg.default_hooks.logger = dict(
        type='LastStepLoggerHook', interval=3, log_metric_by_epoch=False
    )
    cfg.log_processor = dict(by_epoch=False, window_size=2)
    train(cfg)
    steps, losses = read_curves(tmp_path)['loss']
    assert steps.tolist() == [3, 6, 9, 11]
    assert np.isfinite(losses).all()


class Line(BaseModel):
    """One weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor, mode: str = 'tensor') -> dict[str, torch.Tensor]:
        return dict(loss=(x * self.weight).square().mean())


@pytest.mark.parametrize(
    ('batches', 'interval', 'lines'),
    [
        (4, 5, [4, 8, 12]),  # mmengine's: an epoch shorter than the interval
        (7, 5, [5, 12, 19, 21]),  # and its steps of each epoch, to which the last is added
    ],
)
def test_the_last_step_has_a_line_in_mmengines_loop_over_epochs(
    batches: int, interval: int, lines: list[int], tmp_path: Path
) -> None:
    Runner(
        model=Line(),
        work_dir=str(tmp_path),
        train_dataloader=DataLoader([dict(x=torch.ones(1))] * batches),
        train_cfg=dict(by_epoch=True, max_epochs=3),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(logger=dict(type='LastStepLoggerHook', interval=interval)),
        log_processor=dict(by_epoch=False),
        default_scope='mmengine',
        experiment_name=f'lines{batches}',
    ).train()
    assert read_curves(tmp_path)['loss'][0].tolist() == lines


def test_a_broken_loss_between_log_lines_is_named_before_a_checkpoint(tmp_path: Path) -> None:
    cfg = config(tmp_path, 8)
    cfg.default_hooks.checkpoint.interval = 4
    runner = Runner.from_cfg(cfg)
    step = runner.model.forward
    calls = []

    def breaking(**kwargs: Any) -> dict[str, Any]:
        calls.append(1)
        losses = step(**kwargs)
        return {'loss': losses['loss'] * (float('nan') if len(calls) == 3 else 1)}

    runner.model.forward = breaking
    with pytest.raises(UserError, match=r'step 3: loss is nan at learning rate 0\.06'):
        runner.train()
    assert len(calls) == 4, 'found when the checkpoint of step 4 was due'
    assert not list(tmp_path.glob('*.pth'))


@pytest.mark.parametrize('clip', [None, dict(max_norm=0.5)])
def test_broken_gradients_of_a_sound_loss_are_not_saved(tmp_path: Path, clip: Any) -> None:
    cfg = config(tmp_path, 8)
    cfg.default_hooks.checkpoint.interval = 2
    cfg.optim_wrapper.clip_grad = clip
    runner = Runner.from_cfg(cfg)
    calls = []

    def breaking(gradient: Any) -> Any:
        calls.append(1)
        return gradient * (float('nan') if len(calls) == 4 else 1)

    runner.model.line.weight.register_hook(breaking)
    said = r'step 4: grad_norm is nan' if clip else r'step 4: line\.weight'
    with pytest.raises(UserError, match=said):
        runner.train()
    assert [path.name for path in tmp_path.glob('*.pth')] == ['iter_2.pth']


@pytest.mark.parametrize(('state', 'value'), [('exp_avg_sq', float('inf')), ('exp_avg', np.nan)])
def test_broken_state_of_the_optimizer_is_not_saved(
    tmp_path: Path, state: str, value: float
) -> None:
    """An infinite second moment leaves every weight a number, and keeps it as it is for ever."""
    cfg = config(tmp_path, 8)
    cfg.default_hooks.checkpoint.interval = 2
    runner = Runner.from_cfg(cfg)

    class Break(Hook):
        priority = 'VERY_HIGH'

        def after_train_iter(self, *args: Any, **kwargs: Any) -> None:
            if runner.iter == 3:
                runner.optim_wrapper.optimizer.state[runner.model.line.bias][state][0] = value

    runner.register_hook(Break())
    with pytest.raises(UserError, match=f"step 4: the optimizer's {state} of a parameter"):
        runner.train()
    assert [path.name for path in tmp_path.glob('*.pth')] == ['iter_2.pth']


def test_a_checkpoint_between_two_log_lines_keeps_the_steps_since(tmp_path: Path) -> None:
    cfg = config(tmp_path, 8, steps=4)
    cfg.default_hooks.logger = dict(type='LoggerHook', interval=3, log_metric_by_epoch=False)
    train(cfg)
    hub = torch.load(tmp_path / 'iter_4.pth', weights_only=False)['message_hub']
    history, _ = hub['log_scalars']['train/loss'].data
    assert len(history) == 4


def report(rank: int, folder: str) -> None:
    """A process whose losses are its own, one of which the other does not have."""
    dist.init_process_group(
        'gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=2
    )
    hook, averaged = WatchTraining(), []
    for step in range(3):
        values = {'loss': torch.tensor(1.0 + rank + step)}
        if rank == 0 and step != 1:  # such as the loss of objects where an image has none
            values['loss_mask'] = torch.tensor(5.0)
        if step == 2:
            values['late'] = torch.tensor(7.0 + rank)  # which was in no first step
        averaged.append({name: float(v) for name, v in hook._averaged(values).items()})
    said = {place: broken_in_one(rank, place) for place in ('', 'weight', 'exp_avg_sq')}
    torch.save((averaged, said), f'{folder}/{rank}.pth')
    dist.destroy_process_group()


def broken_in_one(rank: int, place: str) -> str:
    """What a process says before a checkpoint, where a number of the second one is none."""
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(2)).sum().backward()
    optimizer.step()
    tensors = {'weight': model.weight.data, **optimizer.state[model.weight]}
    if place and rank == 1:
        tensors[place][0, 1] = float('inf')
    wrapper = SimpleNamespace(optimizer=optimizer)
    runner = SimpleNamespace(model=model, optim_wrapper=wrapper, iter=3, work_dir='runs/x')
    try:
        WatchTraining().before_snapshot(runner)
    except UserError as error:
        return str(error)
    return ''


@pytest.fixture(scope='module')
def reports(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    folder = tmp_path_factory.mktemp('reports')
    run_processes(report, (str(folder),))
    return [torch.load(folder / f'{rank}.pth') for rank in range(2)]


def test_losses_are_means_over_the_processes(reports: list[Any]) -> None:
    (first, _), (second, _) = reports
    assert first[0] == {'loss': 1.5, 'loss_mask': 5.0}
    assert second[0] == {'loss': 1.5}
    assert first[1] == second[1] == {'loss': 2.5}
    assert first[2] == {'loss': 3.5, 'loss_mask': 5.0, 'late': 7.0}
    assert second[2] == {'loss': 3.5, 'late': 8.0}


def test_what_is_broken_in_one_process_alone_ends_all(reports: list[Any]) -> None:
    """The first process, which saves, has sound numbers."""
    (_, first), (_, second) = reports
    assert first == second
    assert first[''] == ''
    assert first['weight'].startswith('step 4: weight and 0 other weights are no longer numbers')
    assert first['exp_avg_sq'].startswith("step 4: the optimizer's exp_avg_sq of a parameter")
    assert all(first[place].endswith('(process 1)') for place in ('weight', 'exp_avg_sq'))
