"""A pre-training of seconds, with hooks that watch it."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from moca.engine.config_check import check_config
from tests.configs.pretraining import tiny

CONFIG = 'configs/pretrain/moca_tiny-imagenet.py'
_NUMBER = itertools.count()


class Generators(Hook):
    """Looks at the global generators after every step."""

    def __init__(self) -> None:
        self.states: list[Any] = []

    def before_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        self.states.append(
            (torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate())
        )


def train(
    images: Path, work_dir: Path, *options: str, hooks: Sequence[dict[str, Any]] = ()
) -> tuple[Runner, Generators]:
    """Three epochs of five steps on 48-pixel images."""
    cfg = tiny(CONFIG, images, work_dir, *options)
    cfg.model.backbone.img_size = cfg.train_dataloader.dataset['views'].size = 48
    cfg.model.backbone.drop_path_rate = 0.3  # numbers of the global generator matter
    cfg.train_cfg.max_epochs = 3
    cfg.custom_hooks = [*cfg.get('custom_hooks', []), *hooks]
    check_config(cfg)
    # two runs that begin in the same second would share their log
    cfg.experiment_name = str(next(_NUMBER))
    runner = Runner.from_cfg(cfg)
    generators = Generators()
    runner.register_hook(generators)
    runner.train()
    return runner, generators
