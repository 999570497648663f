"""A run of linear depth from end to end: schedules and loss go on where an interrupted one was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.configs.helpers import REPOSITORY
from tests.depth.rooms import write_rooms
from tools import test, train

CONFIG = REPOSITORY / 'configs/depth/own_linear.py'
TINY = dict(_delete_=True, patch_size=14, embed_dim=32, depth=2, num_heads=2, img_size=28)


@pytest.fixture(scope='module')
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six steps of four images on a tiny ViT."""
    root = tmp_path_factory.mktemp('depth')
    write_rooms(root / 'rooms', 5, 2, (28, 42))
    loader = 'num_workers=0, persistent_workers=False'
    schedule = 'dict(warmup=1 / 3, begin=0, end=6, by_epoch=False)'
    path = root / 'tiny.py'
    path.write_text(
        f"""
_base_ = '{CONFIG}'
model = dict(
    data_preprocessor=dict(size=(28, 28)),
    backbone=dict(arch={TINY}, img_size=28),
    decode_head=dict(in_channels=32, loss_decode=dict(warmup=4)),
)
train_dataloader = dict(batch_size=2, dataset=dict(data_root='{root / 'rooms'}'), {loader})
val_dataloader = dict(dataset=dict(data_root='{root / 'rooms'}'), {loader})
test_dataloader = val_dataloader
train_cfg = dict(max_iters=6, val_interval=6)
param_scheduler = [
    dict(type='DepthRate', **{schedule}), dict(type='DepthMomentum', **{schedule})
]
default_hooks = dict(checkpoint=dict(interval=3, max_keep_ckpts=9))
"""
    )
    return path


def run(config: Path, folder: Path, *more: str) -> dict[str, Any]:
    crop = 'train_dataloader.dataset.pipeline.4.crop_size=(28,28)'
    options = ['--cfg-options', crop, *more]
    arguments = [str(config), '--work-dir', str(folder), '--accumulate', '2', '--amp']
    assert train.main([*arguments, *(['--resume'] if more else []), *options]) == 0
    return json.loads((folder / 'run.json').read_text())


def state(folder: Path, step: int) -> Any:
    return torch.load(folder / f'iter_{step}.pth', weights_only=False)


def test_record_resumed_schedule_and_test(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = run(config, tmp_path / 'whole')
    assert (record['task'], record['status']) == ('depth', 'finished')
    assert (record['train_images'], record['val_images'], record['iterations']) == (5, 2, 6)
    metrics = record['metrics']
    assert 0 < metrics['rmse'] < 10
    assert 0 <= metrics['d1'] <= metrics['d3'] <= 100  # in percent
    assert record['main_metrics'] == ['rmse', 'abs_rel', 'd1']
    whole = state(tmp_path / 'whole', 6)
    assert whole['state_dict']['decode_head.loss_decode.steps'] == 6  # of twelve batches

    # as if it had been interrupted after three steps
    (tmp_path / 'cut').mkdir()
    for name in ('iter_3.pth', 'tiny.py', 'run.json'):
        (tmp_path / 'cut' / name).write_bytes((tmp_path / 'whole' / name).read_bytes())
    (tmp_path / 'cut' / 'last_checkpoint').write_text(str(tmp_path / 'cut' / 'iter_3.pth'))
    resumed = run(config, tmp_path / 'cut', 'log_level=INFO')
    assert resumed['iterations'] == 6
    end = state(tmp_path / 'cut', 6)
    assert end['state_dict']['decode_head.loss_decode.steps'] == 6
    for kind in (0, 1):
        ours, theirs = (s['param_schedulers'][kind] for s in (end, whole))
        assert ours['last_step'] == theirs['last_step'] == 5  # of steps 0 to 5
        assert ours['_last_value'] == theirs['_last_value']
    middle = state(tmp_path / 'whole', 3)['optimizer']['param_groups'][0]
    assert middle['betas'][0] == pytest.approx(0.85 + 0.1 * 0.5 * (1 - 2**-0.5), abs=1e-9)
    groups = [s['optimizer']['param_groups'][0] for s in (end, whole)]
    for field in ('lr', 'betas', 'initial_lr'):
        assert groups[0][field] == groups[1][field], field

    capsys.readouterr()
    assert test.main([str(config), str(tmp_path / 'whole/iter_6.pth')]) == 0
    assert f'{metrics["rmse"]:.2f}'[:4] in capsys.readouterr().out
