"""Runs of tools/pretrain.py on two processes, with and without sharded parameters."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from moca.engine.fsdp import runner_of
from tests.configs.helpers import REPOSITORY
from tools.pretrain import configure, parse_args

# The recording of the released code has this architecture: its file can be loaded.
CONFIG = f"""
_base_ = ['{REPOSITORY}/configs/pretrain/moca_v1p0_vit-large.py']
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, patch_size=8, embed_dim=32, depth=4, num_heads=4), img_size=48
    ),
    decoder=dict(dim=24, depth=2, num_heads=4),
    num_words=64,
    early_layer=2,
    skip_offset=1,
)
train_dataloader = dict(
    batch_size=4, num_workers=0, persistent_workers=False, dataset=dict(views=dict(size=48))
)
# two epochs of two steps of 2 x 4 images
train_cfg = dict(max_epochs=2)
default_hooks = dict(
    # a rate at which weights and teacher move
    schedule=dict(
        _delete_=True, type='PretrainSchedule', base_lr=0.1, warmup_epochs=1, momentum=0.9
    ),
    checkpoint=dict(by_epoch=False, interval=1, max_keep_ckpts=-1),
    logger=dict(interval=1),
)
log_level = 'WARNING'
"""


def process(rank: int, world_size: int, folder: str, runs: dict[str, list[str]]) -> None:
    """What each of the processes does: one run after the other."""
    torch.set_num_threads(1)
    dist.init_process_group(
        'gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=world_size
    )
    launcher = dict(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=world_size, MASTER_PORT=1)
    os.environ.update(MASTER_ADDR='localhost', **{k: str(v) for k, v in launcher.items()})
    for name, options in runs.items():
        command = [f'{folder}/config.py', '--data-root', f'{folder}/images']
        command += ['--work-dir', f'{folder}/{name}', '--launcher', 'pytorch', *options]
        cfg = configure(parse_args(command))
        cfg.experiment_name = name
        runner = runner_of(cfg)
        runner.train()
        model = runner.model
        facts: dict[str, Any] = dict(
            runner=type(runner).__name__,
            parameters=sum(p.numel() for p in model.parameters()),
            optimizer=sum(
                value.numel()
                for state in runner.optim_wrapper.optimizer.state.values()
                for key, value in state.items()
                if key != 'step'
            ),
        )
        Path(folder, f'{name}_{rank}.json').write_text(json.dumps(facts))
        torch.save(model.module.codebook.state_dict(), f'{folder}/{name}_{rank}.codebook')
    dist.destroy_process_group()
