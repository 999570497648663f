"""What a run reports: the same numbers as mmengine's own bookkeeping, and losses gone wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config
from mmengine.runner import Runner

from moca.errors import UserError
from tests.engine.test_accumulate import config, train


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
