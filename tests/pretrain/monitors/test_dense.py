"""Segmentation without training as a monitor, beside the evaluation itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config

from moca.errors import UserError
from moca.evaluation.dense.capi_protocol import CapiKNN
from moca.evaluation.dense.in_context import InContext
from moca.evaluation.protocol import EvaluationRun
from moca.pretrain.monitors.dense import (
    InContextMonitor,
    PatchKNNMonitor,
    add_dense_hooks,
)
from tests.configs.helpers import REPOSITORY, write_cityscapes
from tests.pretrain.monitors.monitored import Log
from tests.pretrain.tiny import tiny_moca

DENSE = REPOSITORY / 'configs' / 'dense'


@pytest.fixture(scope='module')
def evaluations(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Settings of both evaluations on tiny data, as a run's config has them."""
    root = write_cityscapes(tmp_path_factory.mktemp('data') / 'driving', train=10)
    cfg = Config(dict(default_hooks={}))
    configs = [DENSE / 'in-context_driving.py', DENSE / 'capi-knn_driving.py']
    add_dense_hooks(cfg, configs, str(root))
    hooks = cfg.default_hooks
    assert hooks.in_context.type == 'InContextMonitor'
    assert hooks.patch_knn.type == 'PatchKNNMonitor'
    assert hooks.in_context.batch_size == 8
    assert hooks.in_context.evaluation.train.data_root == str(root)
    small: dict[str, Any] = dict(memory=60, neighbors=3, epochs=1, size=48, keep=0)
    return {
        'in_context': {**hooks.in_context.evaluation.to_dict(), **small},
        'patch_knn': {**hooks.patch_knn.evaluation.to_dict(), 'k': (1, 3), 'size': 48},
    }


@pytest.mark.parametrize(
    ('name', 'monitor', 'kind'),
    [('in_context', InContextMonitor, InContext), ('patch_knn', PatchKNNMonitor, CapiKNN)],
)
def test_the_teacher_is_measured_and_the_run_does_not_notice(
    name: str, monitor: type[Any], kind: type[Any], evaluations: dict[str, dict[str, Any]]
) -> None:
    model: Any = tiny_moca(img_size=48)
    model.train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    said = model.teacher.mean
    log = Log(model)
    hook = monitor(evaluations[name], batch_size=4)
    state = torch.get_rng_state()
    hook.before_train(log)
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert model.teacher.mean == said

    settings = {key: value for key, value in evaluations[name].items() if key != 'type'}
    evaluation = kind(**settings)
    evaluation.prepare()
    with torch.no_grad():
        wanted = evaluation.run(model.teacher.eval(), EvaluationRun(batch_size=7)).metrics
    assert log.scalars['epoch'] == 0
    for metric, value in wanted.items():
        assert log.scalars[f'{name}/{metric}'] == pytest.approx(value), metric


def test_what_cannot_be_watched_is_refused(
    evaluations: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    cfg = Config(dict(default_hooks={}))
    for config in (DENSE / 'capi-logreg_driving.py', REPOSITORY / 'configs/pretrain/moca_small.py'):
        with pytest.raises(UserError, match=r'--dense .*: its evaluation is'):
            add_dense_hooks(cfg, [config])
    with pytest.raises(UserError, match=r'--data-root .*nowhere: no such folder'):
        add_dense_hooks(cfg, [DENSE / 'in-context_driving.py'], str(tmp_path / 'nowhere'))
    with pytest.raises(UserError, match=r"evaluation\.type='CapiKNN': give InContext"):
        InContextMonitor(evaluations['patch_knn'])
    with pytest.raises(UserError, match='interval is 0'):
        InContextMonitor(evaluations['in_context'], interval=0)
