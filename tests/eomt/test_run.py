"""Whole runs of a mask transformer: one that is killed goes on bit by bit, and is tested."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

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

CONFIG = REPOSITORY / 'configs/segmentation/cityscapes/eomt.py'
STEPS, KILLED = 6, 3


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cityscapes(tmp_path_factory.mktemp('cityscapes'))


def run(data: Path, folder: Path, *options: str) -> dict[str, Any]:
    """Train for some steps; returns the last checkpoint."""
    arguments = ['--data-root', data, '--work-dir', folder, '--seed', '3', *options]
    cfg, record = prepare_training(train_args(CONFIG, *arguments))
    shrink(cfg, 32)
    cfg.train_cfg.update(max_iters=STEPS, val_interval=STEPS)
    cfg.param_scheduler[0].update(warmup=(1, 2), end=STEPS)
    cfg.optim_wrapper.optimizer.lr = 1e-3
    cfg.default_hooks.checkpoint.update(interval=1, max_keep_ckpts=-1)
    # fading from the first step to the last but one
    cfg.default_hooks.annealing.update(starts=[0, 1, 2], ends=[3, 4, 5], total=None)
    train(cfg, record)
    return torch.load(folder / f'iter_{STEPS}.pth', weights_only=False)


def test_a_killed_run_goes_on_bit_by_bit(data: Path, tmp_path: Path) -> None:
    whole = run(data, tmp_path / 'whole')
    (tmp_path / 'killed').mkdir()
    shutil.copy(tmp_path / 'whole' / f'iter_{KILLED}.pth', tmp_path / 'killed')
    middle = torch.load(tmp_path / 'killed' / f'iter_{KILLED}.pth', weights_only=False)
    probs = middle['state_dict']['network.attn_mask_probs']
    assert probs.tolist() == pytest.approx([0.0, (1 / 3) ** 0.9, (2 / 3) ** 0.9], abs=1e-6)
    resumed = run(data, tmp_path / 'killed', '--resume')
    assert whole['state_dict'].keys() == resumed['state_dict'].keys()
    for key, value in whole['state_dict'].items():
        assert torch.equal(value, resumed['state_dict'][key]), key
    assert whole['optimizer']['param_groups'] == resumed['optimizer']['param_groups']
    moved = whole['state_dict']['network.q.weight'] - middle['state_dict']['network.q.weight']
    assert moved.abs().max() > 0


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
