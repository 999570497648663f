"""Normalization and architecture come from the checkpoint, and reach who uses them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import TRANSFORMS
from PIL import Image
from safetensors.torch import save_file

from moca.errors import UserError
from moca.evaluation.backbones import load_backbones, read_input
from moca.transfer.evaluate import prepare_test, take_from_run
from moca.transfer.overrides import set_statistics
from moca.transfer.run import prepare_training
from tests.backbone.helpers import TINY, timm_vit
from tests.configs.helpers import REPOSITORY, train_args, write_cityscapes
from tools import pretrain
from tools import test as tools_test

PROBE = REPOSITORY / 'configs/segmentation/driving/linear-bn.py'
HALF = [127.5] * 3


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A timm ViT whose config says mean and deviation .5."""
    folder = tmp_path / 'weights'
    folder.mkdir()
    save_file(dict(timm_vit(TINY).state_dict()), folder / 'model.safetensors')
    config = dict(
        architecture='vit_tiny_patch16_224',
        model_args=dict(num_heads=TINY['num_heads']),
        pretrained_cfg=dict(mean=[0.5] * 3, std=[0.5] * 3),
    )
    (folder / 'config.json').write_text(json.dumps(config))
    return folder / 'model.safetensors'


def test_a_run_takes_architecture_and_normalization(checkpoint: Path, tmp_path: Path) -> None:
    data = write_cityscapes(tmp_path / 'data')
    arguments = ['--data-root', str(data), '--checkpoint', str(checkpoint)]
    cfg, record = prepare_training(train_args(PROBE, *arguments, '--arch', 'auto'))
    assert cfg.model.backbone.arch['embed_dim'] == TINY['embed_dim']
    assert cfg.model.decode_head.in_channels == TINY['embed_dim']
    assert cfg.model.data_preprocessor.mean == cfg.model.data_preprocessor.std == HALF
    assert record['checkpoint']['mean'] == record['checkpoint']['std'] == [0.5] * 3
    assert record['checkpoint']['normalized_by'] == 'its own config'
    with pytest.raises(UserError, match='--arch auto: takes the architecture of --checkpoint'):
        prepare_training(train_args(PROBE, '--data-root', str(data), '--arch', 'auto'))
    other = ['--cfg-options', 'model.data_preprocessor.mean=[51.0,25.5,0.0]']
    auto = [*arguments, '--arch', 'auto', *other]
    insist = r'insist on them: --mean 0\.2 0\.1 0 --std 0\.229 0\.224 0\.225'
    with pytest.raises(UserError, match=rf'mean \[51\.0, 25\.5.*wants \[127\.5.*{insist}'):
        prepare_training(train_args(PROBE, *auto))
    given = ['--mean', '0.2', '0.1', '0', '--std', '0.229', '0.224', '0.225']
    cfg, record = prepare_training(train_args(PROBE, *auto, 'model.backbone.frozen=False', *given))
    assert cfg.model.data_preprocessor.mean == [51.0, 25.5, 0.0]
    assert record['checkpoint']['mean'] == [0.2, 0.1, 0.0]
    assert record['checkpoint']['normalized_by'] == '--mean and --std'
    assert dict(cfg.model.backbone.init_cfg)['std'] == (0.229, 0.224, 0.225)
    # options win over what the file says, too
    narrow = ['--cfg-options', 'model.backbone.arch.init_values=0.5']
    with pytest.raises(UserError, match=r'ls1\.gamma'):
        prepare_training(train_args(PROBE, *arguments, '--arch', 'auto', *narrow))


def test_nobody_says() -> None:
    imagenet = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
    cfg = Config(dict(model=dict(data_preprocessor=dict(imagenet))))
    set_statistics(cfg, (0.5,) * 3, (0.5,) * 3, None)
    assert cfg.model.data_preprocessor == imagenet
    cfg.model.data_preprocessor.mean = [51.0, 51.0, 51.0]  # the config does
    mean, std = set_statistics(cfg, (0.5,) * 3, (0.5,) * 3, None)
    assert mean == (0.2,) * 3
    assert std == pytest.approx((0.229, 0.224, 0.225))
    cfg.model.data_preprocessor.mean = imagenet['mean']
    set_statistics(cfg, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 'DINOv2')
    assert cfg.model.data_preprocessor == imagenet  # the same, but for rounding


def test_figures(checkpoint: Path, tmp_path: Path) -> None:
    arch: Any = json.dumps(dict(TINY))
    (backbone,) = load_backbones([str(checkpoint)], [_config(tmp_path, arch)])
    Image.fromarray(np.full((32, 32, 3), 255, np.uint8)).save(tmp_path / 'white.png')
    _, tensor = read_input(tmp_path / 'white.png', (32, 32), backbone.model)
    torch.testing.assert_close(tensor, torch.ones_like(tensor))  # (1 - .5) / .5


def _config(folder: Path, arch: str) -> str:
    path = folder / 'arch.py'
    path.write_text(f'model = dict(backbone=dict(arch={json.loads(arch)!r}))\n')
    return str(path)


def test_pre_training(checkpoint: Path, tmp_path: Path) -> None:
    for number in range(4):
        Image.new('RGB', (40, 40)).save(tmp_path / f'{number}.png')
    arguments = [str(REPOSITORY / 'configs/pretrain/mae_tiny-imagenet.py'), '--arch', 'auto']
    arguments += ['--data-root', str(tmp_path), '--checkpoint', str(checkpoint)]
    cfg = pretrain.configure(pretrain.parse_args(arguments))
    assert cfg.model.backbone.arch['num_heads'] == TINY['num_heads']
    views = cfg.train_dataloader.dataset.views
    assert tuple(views.mean) == tuple(views.std) == (0.5,) * 3
    make = TRANSFORMS.build(views)
    drawn = make.sample(np.random.default_rng(0), 40, 40)
    view = make.render(np.full((40, 40, 3), 255, np.uint8), drawn)['view1']
    torch.testing.assert_close(view, torch.ones_like(view))  # (1 - .5) / .5
    asked = pretrain.configure(pretrain.parse_args([*arguments, '--mean', '0', '0', '0']))
    assert tuple(asked.train_dataloader.dataset.views.mean) == (0.0,) * 3
    other = [*arguments, '--cfg-options', 'train_dataloader.dataset.views.mean=[.1,.1,.1]']
    with pytest.raises(UserError, match=r'views\.mean=.*wants.*its own config.*--mean'):
        pretrain.configure(pretrain.parse_args(other))


def test_a_run_is_tested_as_it_was_trained(tmp_path: Path) -> None:
    cfg = Config(dict(model=dict(backbone=dict(type='PlainViT', arch=dict(TINY)))))
    content = dict(meta=dict(cfg=cfg.pretty_text), state_dict={})
    torch.save(content, tmp_path / 'iter_1.pth')
    line = [str(PROBE), str(tmp_path / 'iter_1.pth'), '--patch', '16', '--mean', '0', '0', '0']
    with pytest.raises(UserError, match=r'--patch, --mean: for published files.*is of a run'):
        prepare_test(tools_test.parse_args(line))


def test_a_test_takes_what_the_run_was_told() -> None:
    """By its weights nobody could tell."""
    imagenet = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
    run = dict(
        model=dict(
            backbone=dict(interpolation='bicubic-offset', norm_eps=1e-12),
            data_preprocessor=dict(mean=HALF, std=HALF),
        )
    )
    cfg = Config(dict(model=dict(backbone=dict(), data_preprocessor=dict(imagenet))))
    take_from_run(cfg, run)
    assert cfg.model.backbone == run['model']['backbone']
    assert cfg.model.data_preprocessor == run['model']['data_preprocessor']
    named = Config(dict(model=dict(backbone=dict(interpolation='bilinear'))))
    take_from_run(named, run)
    assert named.model.backbone == dict(interpolation='bilinear', norm_eps=1e-12)
    other = dict(mean=[51.0] * 3, std=[51.0] * 3)
    named = Config(dict(model=dict(backbone=dict(), data_preprocessor=other)))
    with pytest.raises(UserError, match=r'wants \[127\.5.*\(the run\)\. Leave them out of the co'):
        take_from_run(named, run)
    old = Config(dict(model=dict(backbone=dict(), data_preprocessor=dict(imagenet))))
    take_from_run(old, {})
    assert old.model == dict(backbone=dict(), data_preprocessor=imagenet)
