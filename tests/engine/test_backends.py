"""Visualization backends: added beside the JSON files, and fed by a run."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config
from mmengine.visualization import TensorboardVisBackend, Visualizer

from moca.engine.backends import log_to
from moca.engine.cli import merge_options, read_config
from moca.engine.work_dir import changed_fields
from moca.errors import UserError
from moca.evaluation.run import prepare_evaluation
from moca.transfer.run import protocol_config
from tools import train

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / 'configs/pretrain/moca_small.py'


def types(cfg: Any) -> list[str]:
    return [backend['type'].split('.')[-1] for backend in cfg.visualizer.vis_backends]


def test_a_backend_is_added_once_and_the_json_stays(tmp_path: Path) -> None:
    cfg = read_config(CONFIG)
    log_to(cfg, ['tensorboard'])
    log_to(cfg, ['tensorboard'])
    assert types(cfg) == ['LocalVisBackend', 'TensorboardVisBackend']
    visualizer = Visualizer('run', vis_backends=cfg.visualizer.vis_backends, save_dir=str(tmp_path))
    visualizer.add_scalars({'kl_image': 1.0}, step=3)
    visualizer.close()
    assert (tmp_path / 'vis_data/scalars.json').read_text() == '{"kl_image": 1.0, "step": 3}\n'
    assert list((tmp_path / 'vis_data').glob('events.out.tfevents.*'))


def test_a_backend_may_be_given_as_its_class() -> None:
    cfg = Config(dict(visualizer=dict(vis_backends=[dict(type=TensorboardVisBackend)])))
    log_to(cfg, ['tensorboard'])
    assert cfg.visualizer.vis_backends == [dict(type=TensorboardVisBackend)]


def test_its_arguments_are_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: name)
    cfg = read_config(CONFIG)
    log_to(cfg, ['wandb'])
    merge_options(cfg, {'visualizer.vis_backends.1.init_kwargs.project': 'mine'})
    assert cfg.visualizer.vis_backends[1].init_kwargs == dict(project='mine')


def test_what_cannot_be_logged_to_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="'tensorbord'; choose of tensorboard, wandb, mlflow"):
        log_to(read_config(CONFIG), ['tensorbord'])
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    for name in ('wandb', 'mlflow'):
        with pytest.raises(UserError, match=f'pip install {name}'):
            log_to(read_config(CONFIG), [name])


def test_a_downstream_run_has_them_and_one_without_curves_refuses() -> None:
    config = str(ROOT / 'configs/segmentation/driving/linear-bn.py')
    option = 'visualizer.vis_backends.1.save_dir=x'
    cfg = protocol_config(
        train.parse_args([config, '--log-to', 'tensorboard', '--cfg-options', option])
    )
    assert types(cfg) == ['LocalVisBackend', 'TensorboardVisBackend']
    assert cfg.visualizer.vis_backends[1].save_dir == 'x'
    args = train.parse_args([str(ROOT / 'configs/imagenet/knn.py'), '--log-to', 'tensorboard'])
    with pytest.raises(UserError, match=r'--log-to: .*knn.py trains nothing'):
        prepare_evaluation(args)


def test_a_resumed_run_may_log_elsewhere() -> None:
    cfg = read_config(CONFIG)
    before = cfg.to_dict()
    log_to(cfg, ['tensorboard'])
    assert not changed_fields(before, cfg.to_dict())


def test_a_work_dir_is_one_run_of_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip('mlflow')
    uri = f'sqlite:///{tmp_path}/mlflow.db'
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mlflow, 'get_tracking_uri', lambda: uri)

    def start(name: str, steps: list[int], resume: bool) -> None:
        cfg = read_config(CONFIG)
        log_to(cfg, ['mlflow'])
        cfg.work_dir, cfg.resume = str(tmp_path / name), resume
        backends = cfg.visualizer.vis_backends
        visualizer = Visualizer('run', vis_backends=backends, save_dir=str(tmp_path / name / 'now'))
        visualizer.add_config(cfg)
        for step in steps:
            visualizer.add_scalars({'loss': float(step)}, step=step)
        visualizer.close()

    start('a', [1, 2], resume=False)
    start("b's", [1], resume=False)
    start('a', [3], resume=True)
    start("b's", [2], resume=True)
    start('a', [7], resume=False)
    start('new', [1], resume=True)  # logged nowhere so far
    client = mlflow.MlflowClient(uri)
    found = client.search_runs(['0'], order_by=['attributes.start_time ASC'])
    logged = [
        (run.info.run_name, [m.step for m in client.get_metric_history(run.info.run_id, 'loss')])
        for run in found
    ]
    assert logged == [('a', [1, 2, 3]), ("b's", [1, 2]), ('a', [7]), ('new', [1])]
    params = [run.data.params['resume'] for run in found]
    assert params == ['False', 'False', 'False', 'True']
    artifacts = [file.path for file in client.list_artifacts(found[0].info.run_id)]
    assert artifacts == ['config.py']
