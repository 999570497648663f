"""Visualization backends: added beside the JSON files, and fed by a run."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from mmengine.visualization import Visualizer

from moca.engine.backends import log_to
from moca.engine.cli import merge_options, read_config
from moca.errors import UserError

CONFIG = Path(__file__).parents[2] / 'configs/pretrain/moca_small.py'


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


def test_its_arguments_are_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: name)
    cfg = read_config(CONFIG)
    log_to(cfg, ['wandb'])
    merge_options(cfg, {'visualizer.vis_backends.1.init_kwargs.project': 'mine'})
    assert cfg.visualizer.vis_backends[1].init_kwargs == dict(project='mine')


def test_what_cannot_be_logged_to_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="'tensorbord'; choose of tensorboard, wandb"):
        log_to(read_config(CONFIG), ['tensorbord'])
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(UserError, match='pip install wandb'):
        log_to(read_config(CONFIG), ['wandb'])
