"""A run killed again and again by SIGKILL ends bit for bit like one that never was."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from moca.engine.checkpoints import latest_checkpoint
from tests.pretrain.data.shards.tars import contents, write_split

REPOSITORY = Path(__file__).parents[2]
EPOCHS, KILLS = 30, 10
OPTIONS = [
    'model.backbone.arch.patch_size=16',
    'model.backbone.arch.embed_dim=32',
    'model.backbone.arch.depth=6',
    'model.backbone.arch.num_heads=2',
    'model.decoder.dim=32',
    'model.num_words=64',
    f'train_cfg.max_epochs={EPOCHS}',
    'default_hooks.schedule.warmup_epochs=1',
    'train_dataloader.batch_size=4',
    'train_dataloader.num_workers=0',
    'train_dataloader.persistent_workers=False',
    'default_hooks.checkpoint.by_epoch=False',
    'default_hooks.checkpoint.interval=1',
]


def start(images: Path, work_dir: Path) -> subprocess.Popen[bytes]:
    config = work_dir.parent / 'tiny.py'
    config.write_text(
        f"_base_ = ['{REPOSITORY}/configs/pretrain/moca_small.py']\n"
        'model = dict(backbone=dict(arch=dict(_delete_=True)))\n'
    )
    command = [sys.executable, 'tools/pretrain.py', str(config), '--data-root', str(images)]
    command += ['--work-dir', str(work_dir), '--resume', '--cfg-options', *OPTIONS]
    log = (work_dir.parent / f'{work_dir.name}.log').open('ab')
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=log, stderr=log)


@pytest.mark.slow
@pytest.mark.parametrize('source', ['folder', 'shards'])
def test_ten_kills_change_nothing(source: str, tmp_path: Path) -> None:
    images = tmp_path / 'images'
    images.mkdir()
    random = np.random.default_rng(0)
    for number in range(9):
        cv2.imwrite(
            str(images / f'{number}.png'), random.integers(0, 256, (60, 80, 3), dtype=np.uint8)
        )
    if source == 'shards':
        write_split(tmp_path / 'shards', contents(images), [4, 2, 3])
        images = tmp_path / 'shards'
    assert start(images, tmp_path / 'whole').wait() == 0

    killed = 0
    while killed < KILLS:
        process = start(images, tmp_path / 'killed')
        before = latest_checkpoint(tmp_path / 'killed')
        # at a random moment after it has begun to train again
        while latest_checkpoint(tmp_path / 'killed') == before and process.poll() is None:
            time.sleep(0.02)
        try:
            process.wait(float(random.uniform(0, 0.5)))
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
    assert killed >= KILLS, 'the run ended before it was killed often enough'
    assert start(images, tmp_path / 'killed').wait() == 0
    assert not list((tmp_path / 'killed').glob('.*.partial'))

    last = f'iter_{EPOCHS * 2}.pth'
    whole, resumed = (
        torch.load(tmp_path / name / last, weights_only=False) for name in ('whole', 'killed')
    )
    for name, value in whole['state_dict'].items():
        assert torch.equal(resumed['state_dict'][name], value), name
    states = (content['optimizer']['state'] for content in (whole, resumed))
    for one, other in zip(*(state.values() for state in states), strict=True):
        assert all(torch.equal(value, other[name]) for name, value in one.items())
