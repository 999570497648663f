"""Whole runs of a mask transformer: one that is killed goes on bit by bit, and is tested."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config

from moca.engine.cli import read_config
from moca.eomt.annealing import MaskAnnealing
from moca.transfer.run import prepare_training, train
from tests.configs.helpers import (
    REPOSITORY,
    shrink,
    train_args,
    write_cityscapes,
    write_coco,
    write_panoptic,
)
from tools import prepare_data, visualize
from tools import train as train_tool

CONFIG = REPOSITORY / 'configs/segmentation/cityscapes/eomt.py'
STEPS, KILLED = 6, 3


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cityscapes(tmp_path_factory.mktemp('cityscapes'))


def shorten_to_steps(cfg: Config) -> None:
    """Have a run of few steps, whose masks fade from the first one to the last but one."""
    cfg.train_cfg.update(max_iters=STEPS, val_interval=STEPS)
    cfg.param_scheduler[0].update(warmup=(1, 2), end=STEPS)
    cfg.optim_wrapper.optimizer.lr = 1e-3
    cfg.default_hooks.checkpoint.update(interval=KILLED)
    cfg.default_hooks.annealing.update(starts=[0, 1, 2], ends=[3, 4, 5], total=None)


def test_a_run_of_the_tool_that_is_killed_ends_like_one_that_is_not(
    data: Path, tmp_path: Path
) -> None:
    """By SIGKILL, in the step after the last checkpoint, while two of three blocks fade."""
    cfg = shrink(read_config(CONFIG), 32)
    shorten_to_steps(cfg)
    cfg.dump(tmp_path / 'tiny.py')

    def command(folder: str) -> list[str]:
        where = ['--data-root', str(data), '--work-dir', str(tmp_path / folder)]
        return [str(tmp_path / 'tiny.py'), *where, '--seed', '3', '--resume']

    # not forked: autograd's threads, which another test may have started, do not survive that
    process = multiprocessing.get_context('spawn').Process(
        target=killed_by_itself, args=(command('killed'), tmp_path / 'log')
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL, (tmp_path / 'log').read_text()
    assert [path.name for path in (tmp_path / 'killed').glob('iter_*')] == [f'iter_{KILLED}.pth']
    middle = torch.load(tmp_path / 'killed' / f'iter_{KILLED}.pth', weights_only=False)
    probs = middle['state_dict']['network.attn_mask_probs']
    assert probs.tolist() == pytest.approx([0.0, (1 / 3) ** 0.9, (2 / 3) ** 0.9], abs=1e-6)
    ended = {}
    for folder in ('whole', 'killed'):
        assert train_tool.main(command(folder)) == 0
        path = tmp_path / folder / f'iter_{STEPS}.pth'
        ended[folder] = torch.load(path, weights_only=False)
    whole, resumed = ended.values()
    assert whole['state_dict'].keys() == resumed['state_dict'].keys()
    for key, value in whole['state_dict'].items():
        assert torch.equal(value, resumed['state_dict'][key]), key
    moved = whole['state_dict']['network.q.weight'] - middle['state_dict']['network.q.weight']
    assert moved.abs().max() > 0
    assert whole['optimizer']['param_groups'] == resumed['optimizer']['param_groups']
    states = (each['optimizer']['state'] for each in ended.values())
    for one, other in zip(*(each.values() for each in states), strict=True):
        assert all(torch.equal(value, other[key]) for key, value in one.items())


def killed_by_itself(arguments: list[str], log: Path) -> None:
    """Train by the tool, until the step behind the checkpoint has changed the weights."""
    with log.open('w') as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    after = MaskAnnealing.after_train_iter

    def kill(self: MaskAnnealing, runner: Any, *args: Any, **kwargs: Any) -> None:
        after(self, runner, *args, **kwargs)
        if runner.iter == KILLED:
            os.kill(os.getpid(), signal.SIGKILL)

    MaskAnnealing.after_train_iter = kill  # type: ignore[method-assign]
    train_tool.main(arguments)


def test_panoptic_segments_are_surveyed_learned_and_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_panoptic(write_coco(tmp_path / 'coco'))
    config = REPOSITORY / 'configs/detection/coco/eomt_panoptic.py'
    out = ['--out', str(tmp_path / 'data.png')]
    assert prepare_data.main(['check', str(config), '--data-root', str(data), *out]) in (None, 0)
    said = capsys.readouterr().out
    assert 'grass-merged' in said
    assert (tmp_path / 'data.png').is_file()
    cfg, record = prepare_training(
        train_args(config, '--data-root', data, '--work-dir', tmp_path / 'run', '--seed', '3')
    )
    shrink(cfg, 20)
    cfg.train_cfg.update(max_iters=1, val_interval=1)
    cfg.param_scheduler[0].update(warmup=(1, 1), end=3)
    train(cfg, record)
    metrics = json.loads((tmp_path / 'run/run.json').read_text())['metrics']
    assert set(metrics) == {f'{q}{part}' for q in ('PQ', 'SQ', 'RQ') for part in ('', '_th', '_st')}
    out = ['--out', str(tmp_path / 'run.png'), '--count', '1']
    assert visualize.main(['panoptic', str(tmp_path / 'run'), *out]) in (None, 0)
    assert (tmp_path / 'run.png').stat().st_size > 1000
    out += ['--images', str(data / 'val2017')]
    assert visualize.main(['panoptic', str(tmp_path / 'run'), *out]) in (None, 0)
