"""Siblings of MOCA with sharded parameters end where they end with whole ones.

MOCA itself is in tests/engine/test_fsdp.py. MACRL has a moving average beside the encoders, CAN has
modules that no other method has, MOMA has frozen teachers.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from moca.backbone import PlainViT
from moca.engine.fsdp import runner_of
from tests.configs.helpers import REPOSITORY
from tests.images.photographs import save_photographs
from tests.processes import run_processes
from tools.pretrain import configure, parse_args

CONFIG = f"""
_base_ = ['{REPOSITORY}/configs/pretrain/NAME_tiny-imagenet.py']
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, patch_size=8, embed_dim=32, depth=2, num_heads=2), img_size=16
    ),
    decoder=dict(dim=32, depth=1, num_heads=2),
    projector=dict(hidden_dim=16, out_dim=8),
)
train_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=False, dataset=dict(views=dict(size=16))
)
# a rate at which weights and teacher move
default_hooks = dict(
    schedule=dict(base_lr=1.0, warmup_epochs=1, stretch=1.0, momentum=0.8),
    checkpoint=dict(max_keep_ckpts=-1),
)
train_cfg = dict(max_epochs=2)
log_level = 'WARNING'
"""
ARCH = dict(patch_size=8, embed_dim=32, depth=2, num_heads=2)
# what a method's config has beside that, and what its training moves
METHODS = {
    'can': ('', {'student', 'decoder', 'projector', 'sigma_mlp'}),
    'macrl': (
        "model['bank_size'] = 4",  # of 8 images
        {'student', 'decoder', 'projector', 'teacher', 'teacher_projector', 'bank'},
    ),
    'moma': (
        f"del model['decoder'], model['projector'], default_hooks['schedule']['momentum']\n"
        f"model['teachers'] = dict(_delete_=True, mae=dict(arch={ARCH}, checkpoint='TEACHER'))",
        {'student', 'projectors'},
    ),
}


def process(rank: int, folder: str) -> None:
    """Each method, sharded and whole."""
    torch.set_num_threads(1)
    dist.init_process_group(
        'gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=2
    )
    launcher = dict(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=2, MASTER_PORT=1)
    os.environ.update(MASTER_ADDR='localhost', **{k: str(v) for k, v in launcher.items()})
    for name in METHODS:
        for strategy in (None, dict(type='ShardedStrategy')):
            run = f'{name}_{"sharded" if strategy else "whole"}'
            command = [f'{folder}/{name}.py', '--data-root', f'{folder}/images']
            command += ['--work-dir', f'{folder}/{run}', '--launcher', 'pytorch']
            cfg = configure(parse_args(command))
            cfg.experiment_name, cfg.strategy = run, strategy
            runner_of(cfg).train()
    dist.destroy_process_group()


@pytest.fixture(scope='module')
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('runs')
    save_photographs(folder / 'images', count=8)
    teacher = PlainViT(ARCH, img_size=16)
    teacher.init_weights()
    torch.save(teacher.state_dict(), folder / 'teacher.pth')
    for name, (more, _) in METHODS.items():
        text = CONFIG.replace('NAME', name) + more.replace('TEACHER', str(folder / 'teacher.pth'))
        (folder / f'{name}.py').write_text(text)
    run_processes(process, (str(folder),))
    return folder


@pytest.mark.parametrize('name', METHODS)
def test_sharded_and_whole_runs_agree(runs: Path, name: str) -> None:
    def state(run: str, epoch: int) -> dict[str, Any]:
        path = runs / f'{name}_{run}' / f'epoch_{epoch}.pth'
        return torch.load(path, weights_only=False)['state_dict']

    sharded, whole, early = state('sharded', 2), state('whole', 2), state('whole', 1)
    assert sharded.keys() == whole.keys()
    for key, value in whole.items():
        torch.testing.assert_close(sharded[key], value, rtol=1e-3, atol=1e-5, msg=key)
    moved = {
        key.split('.')[0]
        for key, value in whole.items()
        if value.is_floating_point() and (value - early[key]).abs().max() > 1e-5
    }
    assert moved == METHODS[name][1]  # else the comparison would say nothing
