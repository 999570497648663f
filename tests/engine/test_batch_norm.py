"""Statistics of batch norm measured before a validation, beside a model whose own lag behind."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.runner import Runner
from torch import Tensor, nn

from moca.engine.batch_norm import RecomputeBatchNorm
from moca.engine.checkpoints import latest_checkpoint
from moca.errors import UserError
from tests.engine.test_accumulate import config
from tests.engine.test_ema import _Nothing  # noqa: F401  registered there


@MODELS.register_module()
class _Drifting(BaseModel):
    """A line that learns fast under a batch norm, with dropout beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(3, 4)
        self.drop = nn.Dropout(0.5)
        self.norm = nn.BatchNorm1d(4)
        self.seen: list[tuple[Tensor, Tensor]] = []

    def forward(self, inputs: Tensor, target: Tensor, mode: str) -> Any:
        if mode == 'predict':
            self.seen.append((self.norm.running_mean.clone(), self.line.weight.detach().clone()))
            return [0]
        output = self.norm(self.drop(self.line(inputs)))
        return dict(loss=(output[:, 0] - target).square().mean() + self.line(inputs).mean())


NAME = '_Drifting'


def run(folder: Path, **hook: Any) -> Any:
    cfg = config(folder, 8, steps=6)
    cfg.model = dict(type=NAME)
    cfg.train_cfg.val_interval = 3
    cfg.optim_wrapper.optimizer = dict(type='SGD', lr=0.05)
    cfg.val_cfg = dict(type='ValLoop')
    cfg.val_dataloader = copy.deepcopy(cfg.train_dataloader)
    cfg.val_dataloader.sampler = dict(type='DefaultSampler')
    cfg.val_evaluator = dict(type='_Nothing')
    cfg.default_hooks.checkpoint.interval = 3
    if hook:
        cfg.default_hooks.batch_norm = dict(type='RecomputeBatchNorm', **hook)
    cfg.experiment_name = folder.name
    cfg.randomness = dict(seed=0)
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def true_mean(weight: Tensor, bias: Tensor) -> Tensor:
    """Over all 40 points, without dropout."""
    points = torch.stack(
        [torch.randn(3, generator=torch.Generator().manual_seed(i)) for i in range(40)]
    )
    return (points @ weight.T + bias).mean(0)


def test_statistics_are_those_of_the_weights_as_they_are(tmp_path: Path) -> None:
    lagging = run(tmp_path / 'lagging')
    measured = run(tmp_path / 'measured', num_batches=5)  # 5 x 8 are all of the 40 points
    for runner, close in ((lagging, False), (measured, True)):
        model = runner.model
        wanted = true_mean(model.line.weight.detach(), model.line.bias.detach())
        error = (model.norm.running_mean - wanted).abs().max()
        assert (error < 1e-5) == close
        assert model.norm.momentum == 0.1
        # the checkpoint of the last step has them as well
        saved = torch.load(latest_checkpoint(runner.work_dir), weights_only=False)['state_dict']
        assert torch.equal(saved['norm.running_mean'], model.norm.running_mean)
    assert measured.model.seen[0][0].ne(lagging.model.seen[0][0]).any()


def test_training_goes_on_with_the_same_random_numbers(tmp_path: Path) -> None:
    """Statistics change nothing but themselves: a norm in training mode uses its batch's."""
    without = run(tmp_path / 'a')
    with_it = run(tmp_path / 'b', num_batches=2)
    for name in ('line.weight', 'line.bias', 'norm.weight'):
        ours, theirs = with_it.model.state_dict()[name], without.model.state_dict()[name]
        assert torch.equal(ours, theirs), name


def test_a_model_without_a_trained_norm_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def frozen(self: Any, mode: bool = True) -> Any:
        BaseModel.train(self, mode)
        self.norm.eval()
        return self

    monkeypatch.setattr(_Drifting, 'train', frozen)
    runner = run(tmp_path / 'c', num_batches=2)
    assert not runner.model.norm.running_mean.any()


class _WithAuxiliary(_Drifting):
    """Another norm, which only the loss runs, as mmseg's auxiliary heads."""

    def __init__(self) -> None:
        super().__init__()
        self.auxiliary = nn.BatchNorm1d(4)

    def forward(self, inputs: Tensor, target: Tensor, mode: str) -> Any:
        if mode == 'loss':
            self.auxiliary(self.line(inputs) + 9)
        return super().forward(inputs, target, mode)


MODELS.register_module(module=_WithAuxiliary)


def test_norms_that_only_the_loss_runs_keep_their_statistics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), 'NAME', '_WithAuxiliary')
    runner = run(tmp_path / 'd', num_batches=5)
    model = runner.model
    wanted = true_mean(model.line.weight.detach(), model.line.bias.detach())
    assert (model.norm.running_mean - wanted).abs().max() < 1e-5
    assert model.auxiliary.running_mean.abs().max() > 1  # not reset


def test_what_it_does_not_fit_is_refused(tmp_path: Path) -> None:
    runner = SimpleNamespace(train_loop=None, hooks=[])
    with pytest.raises(UserError, match='counts iterations'):
        RecomputeBatchNorm().before_train(runner)
