"""Misspelt arguments end in one line that names the class and the word; right ones pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

from moca.engine.cli import main_guard, read_config
from moca.engine.config_check import check_config
from moca.engine.config_kinds import check_option
from moca.errors import UserError
from tests.configs.helpers import REPOSITORY, write_cityscapes, write_coco
from tools import train

PROBE = REPOSITORY / 'configs/segmentation/driving/linear-bn.py'
VITDET = REPOSITORY / 'configs/detection/coco/vitdet_mask-rcnn.py'


@pytest.mark.parametrize(
    ('config', 'option', 'value', 'message'),
    [
        (PROBE, 'default_hooks.checkpoint.intervall', 1, r"'intervall'.*'interval'"),
        (PROBE, 'model.backbone.frozn', True, r"model\.backbone: .*'frozn'.*'frozen'"),
        (PROBE, 'model.decode_head.type', 'LinearSegHeed', r"no 'LinearSegHeed'.*'LinearSegHead'"),
        (VITDET, 'val_evaluator.metrics', 'bbox', r"val_evaluator: .*'metrics'.*'metric'"),
        (PROBE, 'train_cfg.max_iter', 9, r"IterBasedTrainLoop .*'max_iter'.*'max_iters'"),
        (PROBE, 'train_cfg.max_epochs', 9, r"'max_epochs'.* It has: .*max_iters, val_begin"),
        (PROBE, 'train_cfg.type', 'IterBasedLoop', r"no 'IterBasedLoop'.*'IterBasedTrainLoop'"),
        (PROBE, 'model.backbone.type', ['PlainViT'], r"model\.backbone\.type is \['PlainViT'\]"),
        (PROBE, 'train_cfg.type', 2, r'train_cfg\.type is 2, which names no class'),
        (PROBE, 'train_cfg.type', None, r'train_cfg\.type: there is no None'),
        (PROBE, 'model', 3, r'model is 3, where a dict belongs'),
        (VITDET, 'optim_wrapper', [1, 2], r'optim_wrapper is \[1, 2\], where a dict belongs'),
        (PROBE, 'default_hooks.checkpont.interval', 9, r"no hook 'checkpont'.*'checkpoint'"),
        (VITDET, 'val_cfg.fp_16', True, r"val_cfg: ValLoop .*'fp_16'.*'fp16'"),
    ],
)
def test_misspelt(config: Path, option: str, value: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read_config(config, {option: value})
    assert f'{config}: {option.rpartition(".")[0].split(".")[0]}' in str(caught.value)


@pytest.mark.parametrize(
    ('config', 'option', 'value', 'message'),
    [
        (PROBE, 'model.backbone', 3, r'backbone=3: the config has fields there \(type, '),
        (PROBE, 'model.decode_head.num_classes', 'many', r"num_classes='many': .* Give a number"),
        (PROBE, 'train_cfg.max_iters', 'few', r'Give a number'),
        (PROBE, 'model.backbone.frozen', 'no', r'Give True or False'),
        (PROBE, 'optim_wrapper.optimizer.lr', 'fast', r'Give a number'),
        (PROBE, 'train_dataloader.dataset.data_root', 2012, r'Give a text'),
        (PROBE, 'train_dataloader.batch_size', 0, r'train_dataloader\.batch_size'),
        (PROBE, 'train_dataloader.dataset.pipeline', 'Resize', r'dicts there\. Set a field of one'),
        (
            PROBE,
            'train_dataloader.dataset.pipeline.40.scale',
            2,
            r'pipeline has \d+ elements, 0 to',
        ),
        (PROBE, 'model.data_preprocessor.mean', 'zero', r'Give a list'),
        (PROBE, 'optim_wrapper.clip_grad', 3, r'optim_wrapper\.clip_grad=3: give a dict'),
        (PROBE, 'model.backbone.img_size', True, r'img_size=True: give '),
        (VITDET, 'val_evaluator', 5, r'val_evaluator'),
        (VITDET, 'param_scheduler', 'cosine', r'param_scheduler'),
        (VITDET, 'param_scheduler', [1], r'param_scheduler is \[1\], where a list of dicts'),
        (PROBE, 'train_cfg.max_iters', 0, r'train_cfg\.max_iters=0: give a whole number'),
    ],
)
def test_values_of_another_kind(config: Path, option: str, value: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read_config(config, {option: value})
    assert option.split('.')[0] in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    'options',
    [
        {'model.backbone.arch.depth': 3, 'model.backbone.frozen': 0},
        {'optim_wrapper.optimizer.lr': 1, 'optim_wrapper.clip_grad': None},
        {'train_dataloader.dataset.pipeline.2.scale': 64, 'log_level': 'WARNING'},
        {'model.backbone.img_size': 64, 'custom_hooks': [], 'val_evaluator': None},
        {'optim_wrapper.loss_scale': 'dynamic', 'randomness': dict(seed=3)},
        {'train_cfg.max_iters': 1e4, 'model.backbone.frozen': 1},
        {'model.backbone': dict(_delete_=True, type='PlainViT', arch='vit_tiny_patch16')},
    ],
)
def test_values_of_a_kind_that_may_stand_there(options: dict[str, Any]) -> None:
    cfg = read_config(PROBE)
    if 'model.backbone.arch.depth' in options:
        cfg.model.backbone.arch = dict(patch_size=8, embed_dim=32, depth=2, num_heads=2)
    for key, value in options.items():
        check_option(cfg, key, value)
    if 'train_cfg.max_iters' in options:
        assert read_config(PROBE, options).train_cfg.max_iters == 10_000


@pytest.mark.parametrize(
    ('config', 'option', 'said'),
    [
        (PROBE, 'optim_wrapper.optimizer.learning_rate=1', ('AdamW', 'learning_rate')),
        (PROBE, 'train_dataloader.num_worker=1', ('DataLoader', 'num_worker')),
        (PROBE, 'train_dataloader.dataset.pipeline.3.size=1', ('RandomCrop', 'size')),
        (PROBE, 'param_scheduler.0.start=1', ('ParamScheduler', 'start')),
        (PROBE, 'optim_wrapper.type=OptimWraper', ('OptimWraper is not in', 'registry')),
        (VITDET, 'model.roi_head.bbox_head.num_class=3', ('BBoxHead', 'num_class')),
    ],
)
def test_what_a_library_refuses_is_one_line(
    config: Path, option: str, said: tuple[str, str], tmp_path: Path, capfd: Any
) -> None:
    write = write_coco if config is VITDET else write_cityscapes
    write(tmp_path / 'data')
    arguments = [str(config), '--data-root', str(tmp_path / 'data')]
    arguments += ['--work-dir', str(tmp_path / 'run'), '--cfg-options', option]
    arguments += ['train_cfg.max_iters=1', 'model.backbone.arch=vit_tiny_patch16_224']
    assert train.main(arguments) == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if 'error: ' in line]
    assert line.startswith('error: the config cannot be built: ')
    assert all(word in line for word in said)


def test_other_errors_keep_their_traceback() -> None:
    @main_guard
    def main() -> None:
        train.main(wrong=1)

    with pytest.raises(TypeError, match='wrong'):
        main()


def test_every_config_here_passes() -> None:
    configs = list((REPOSITORY / 'configs').rglob('*.py'))
    assert len(configs) > 30
    for path in configs:
        read_config(path)


def test_foreign_classes_are_left_to_their_libraries() -> None:
    """A user's classes, functions' own arguments, and variables of the file."""
    check_config(
        Config(
            dict(
                model=dict(
                    type='MyModel',
                    any='thing',
                    head=dict(norm_cfg=dict(type='BN', requires_grad=True)),
                ),
                custom_hooks=[dict(type='MyHook', often=3), dict(type='EMAHook', momentum=0.1)],
            )
        )
    )
