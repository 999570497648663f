"""Averaged weights beside an average by hand: validated, saved, resumed; frozen ones shared."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import METRICS, MODELS
from mmengine.runner import Runner
from torch import Tensor, nn

from moca.engine.ema import AveragedWeights, TrainedWeightsEMA
from moca.errors import UserError
from tests.engine.test_accumulate import config as points

_NUMBER = itertools.count()


@MODELS.register_module()
class _Normed(BaseModel):
    """Frozen features, a batch norm and a line."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Linear(3, 4).requires_grad_(False)
        self.norm = nn.BatchNorm1d(4)
        self.line = nn.Linear(4, 1)
        self.seen: list[dict[str, Tensor]] = []

    def init_weights(self) -> None:
        """As a run does it: after the hooks were told that it begins."""
        torch.manual_seed(0)
        for layer in (self.backbone, self.line):
            layer.reset_parameters()

    def forward(self, inputs: Tensor, target: Tensor, mode: str) -> Any:
        if mode != 'loss':
            self.seen.append(copied(self))
            return [0]
        output = self.line(self.norm(self.backbone(inputs))).squeeze(1)
        return dict(loss=(output - target).square().mean())


@METRICS.register_module()
class _Nothing(BaseMetric):
    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        self.results.append(0)

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        return dict(score=0.0)


class Record(Hook):
    """Copies the weights after every step, before the average and validation."""

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self.weights: list[dict[str, Tensor]] = []

    def after_train_iter(self, runner: Any, *_: Any, **__: Any) -> None:
        self.weights.append(copied(runner.model))


def copied(model: nn.Module) -> dict[str, Tensor]:
    state = model.state_dict().items()
    return {key: value.clone() for key, value in state if value.is_floating_point()}


def average(weights: list[dict[str, Tensor]], momentum: float) -> dict[str, Tensor]:
    """By hand, in double precision; the first moves all the way."""
    found = {key: value.double() for key, value in weights[0].items()}
    for number, newest in enumerate(weights[1:], start=2):
        share = max(momentum, 10 / (9 + number))
        for key, value in newest.items():
            found[key] = (1 - share) * found[key] + share * value.double()
    return found


def run(folder: Path, steps: int, momentum: float, resume: int = 0) -> tuple[Runner, Record]:
    cfg = points(folder, 4, steps)
    cfg.model, cfg.param_scheduler = dict(type='_Normed'), None
    cfg.val_dataloader = dict(cfg.train_dataloader, sampler=dict(type='DefaultSampler'))
    cfg.val_dataloader.batch_size = 40
    cfg.val_cfg, cfg.val_evaluator = dict(), dict(type='_Nothing')
    cfg.train_cfg.val_interval = 5
    cfg.default_hooks.checkpoint.interval = 5
    cfg.custom_hooks = [dict(type='AveragedWeights', momentum=momentum)]
    cfg.resume, cfg.load_from = bool(resume), str(folder / f'iter_{resume}.pth')
    cfg.load_from = cfg.load_from if resume else None
    cfg.experiment_name = str(next(_NUMBER))
    runner = Runner.from_cfg(cfg)
    record = Record()
    runner.register_hook(record)
    runner.train()
    return runner, record


def assert_equal(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    for key, value in wanted.items():
        torch.testing.assert_close(found[key].double(), value.double(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('momentum', [0.0002, 0.9])
def test_the_average_is_validated_and_saved(tmp_path: Path, momentum: float) -> None:
    runner, record = run(tmp_path, 10, momentum)
    assert len(record.weights) == 10
    assert {len(weights) for weights in record.weights} == {8}  # BN's statistics are among them
    for place, step in enumerate((5, 10)):
        wanted = average(record.weights[:step], momentum)
        assert_equal(runner.model.seen[place], wanted)
        checkpoint = torch.load(tmp_path / f'iter_{step}.pth', weights_only=False)
        assert_equal(checkpoint['state_dict'], wanted)
    assert_equal(copied(runner.model), record.weights[-1])  # training goes on from these
    if momentum == 0.0002:
        assert (wanted['line.weight'] - record.weights[-1]['line.weight']).abs().max() > 1e-2


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(tmp_path: Path) -> None:
    whole, _ = run(tmp_path / 'whole', 10, 0.3)
    run(tmp_path / 'parts', 5, 0.3)
    parts, _ = run(tmp_path / 'parts', 10, 0.3, resume=5)
    for key, value in copied(whole.model).items():
        assert torch.equal(value, copied(parts.model)[key]), key
        assert torch.equal(whole.model.seen[-1][key], parts.model.seen[-1][key]), key


def test_a_finished_run_is_validated_by_its_average_again(tmp_path: Path) -> None:
    before, _ = run(tmp_path, 10, 0.0002)
    again, record = run(tmp_path, 10, 0.0002, resume=10)
    assert not record.weights
    again.val()
    assert_equal(again.model.seen[-1], before.model.seen[-1])


def test_frozen_weights_cost_nothing(tmp_path: Path) -> None:
    runner, _ = run(tmp_path, 5, 0.0002)
    (hook,) = [hook for hook in runner.hooks if isinstance(hook, AveragedWeights)]
    assert isinstance(hook.ema_model, TrainedWeightsEMA)
    assert hook.ema_model.module.backbone.weight is runner.model.backbone.weight
    assert hook.ema_model.module.line.weight is not runner.model.line.weight
    checkpoint = torch.load(tmp_path / 'iter_5.pth', weights_only=False)
    assert torch.equal(checkpoint['state_dict']['backbone.weight'], runner.model.backbone.weight)
    assert not [key for key in checkpoint['ema_state_dict'] if 'backbone' in key]
    assert not [key for key in hook.ema_model.avg_parameters if 'backbone' in key]


def test_a_checkpoint_without_an_average(tmp_path: Path) -> None:
    run(tmp_path, 5, 0.0002)
    path = tmp_path / 'iter_5.pth'
    checkpoint = torch.load(path, weights_only=False)
    del checkpoint['ema_state_dict']
    torch.save(checkpoint, path)
    with pytest.raises(UserError, match='it is of a run without --ema'):
        run(tmp_path, 10, 0.0002, resume=5)
