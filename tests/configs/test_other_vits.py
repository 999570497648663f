"""Downstream configs take a step on a rotary ViT and on one without class token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.runner import Runner

from moca.transfer.run import prepare_training
from tests.configs.helpers import (
    REPOSITORY,
    TINY_ARCH,
    shrink,
    train_args,
    write_ade20k,
    write_coco,
)

ARCHS: dict[str, dict[str, Any]] = {
    'rotary': dict(TINY_ARCH, rope=dict(base=100.0), reg_tokens=4, norm_eps=1e-5),
    'no class token': dict(TINY_ARCH, class_token=False),
}


@pytest.mark.parametrize('arch', ARCHS)
@pytest.mark.parametrize(
    'name',
    [
        'segmentation/ade20k/linear-bn',
        'segmentation/ade20k/upernet',
        'detection/coco/mask-rcnn_sfp',
    ],
)
def test_a_step(name: str, arch: str, tmp_path: Path) -> None:
    write = write_coco if name.startswith('detection') else write_ade20k
    data = write(tmp_path / 'data')
    config = REPOSITORY / f'configs/{name}.py'
    cfg, _ = prepare_training(train_args(config, '--data-root', data, '--work-dir', tmp_path))
    runner = Runner.from_cfg(shrink(cfg, arch=ARCHS[arch]))
    model = runner.model
    model.init_weights()
    wrapper = runner.build_optim_wrapper(cfg.optim_wrapper)
    for group in wrapper.param_groups:  # a first step of a warm-up would move nothing
        group['lr'] = 1e-3
    before = {key: value.clone() for key, value in model.named_parameters() if value.requires_grad}
    batch = next(iter(runner.build_dataloader(cfg.train_dataloader)))
    losses = model.train_step(batch, wrapper)
    assert all(torch.isfinite(value).all() for value in losses.values())
    moved = {key for key, value in model.named_parameters() if key in before}
    moved = {key for key in moved if not torch.equal(before[key], model.get_parameter(key))}
    assert any('head' in key for key in moved)
    assert any(key.startswith('backbone.') for key in moved) != model.backbone.frozen
