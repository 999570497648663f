"""Misspelt arguments of anybody's classes are found in a config, and right ones are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mmdet
import mmseg
import pytest
from mmengine.config import Config

from moca.engine.cli import read_config
from moca.engine.config_check import check_config
from moca.errors import UserError
from tests.configs.helpers import REPOSITORY

PROBE = REPOSITORY / 'configs/segmentation/driving/linear-bn.py'
VITDET = REPOSITORY / 'configs/detection/coco/vitdet_mask-rcnn.py'


@pytest.mark.parametrize(
    ('config', 'option', 'value', 'message'),
    [
        (PROBE, 'train_cfg.max_iter', 3, r"IterBasedTrainLoop .*'max_iter'.*'max_iters'"),
        (PROBE, 'val_cfg.fp61', True, r"val_cfg: ValLoop .*'fp61'.*'fp16'"),
        (PROBE, 'optim_wrapper.optimzer.lr', 1, r"OptimWrapper .*'optimzer'.*'optimizer'"),
        (PROBE, 'optim_wrapper.optimizer.learning_rate', 1, r"optimizer: AdamW .*'learning_rate'"),
        (PROBE, 'default_hooks.logger.intervall', 1, r"LoggerHook .*'intervall'.*'interval'"),
        (PROBE, 'default_hooks.checkpoint.intervall', 1, r"'intervall'.*'interval'"),
        (PROBE, 'train_dataloader.num_worker', 1, r"a data loader .*'num_worker'.*'num_workers'"),
        (PROBE, 'train_dataloader.sampler.shufle', 1, r"InfiniteSampler .*'shufle'.*'shuffle'"),
        (PROBE, 'train_dataloader.dataset.anfile', 'x', r"'anfile'.*'ann_file'"),
        (PROBE, 'train_dataloader.dataset.pipeline.3.size', 1, r"RandomCrop .*'size'.*'crop_size'"),
        (PROBE, 'param_scheduler.0.start', 1, r"param_scheduler\.0: LinearLR .*'start'"),
        (PROBE, 'log_processor.windowsize', 1, r"LogProcessor .*'windowsize'.*'window_size'"),
        (VITDET, 'val_evaluator.metrics', 'bbox', r"CocoMetric .*'metrics'.*'metric'"),
        (VITDET, 'train_dataloader.dataset.filter', 1, r"CocoDataset .*'filter'.*'filter_cfg'"),
        (VITDET, 'model.data_preprocessor.pad_masks', 1, r"'pad_masks'.*'pad_mask'"),
    ],
)
def test_misspelt(config: Path, option: str, value: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read_config(config, {option: value})
    assert f'{config}: {option.rpartition(".")[0].split(".")[0]}' in str(caught.value)


def test_every_config_here_passes() -> None:
    configs = list((REPOSITORY / 'configs').rglob('*.py'))
    assert len(configs) > 30
    for path in configs:
        read_config(path)


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize(
    ('library', 'names'),
    [
        (
            mmseg,
            [
                'upernet/upernet_r50_4xb2-40k_cityscapes-512x1024',
                'segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512',
                'segnext/segnext_mscan-t_1xb16-adamw-160k_ade20k-512x512',
                'mask2former/mask2former_r50_8xb2-90k_cityscapes-512x1024',
            ],
        ),
        (
            mmdet,
            [
                'cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco',
                'detr/detr_r50_8xb2-150e_coco',
                'dcn/faster-rcnn_r50-dconv-c3-c5_fpn_1x_coco',
                'rtmdet/rtmdet_tiny_8xb32-300e_coco',
                'yolox/yolox_s_8xb8-300e_coco',
                'vfnet/vfnet_r50_fpn_1x_coco',
                'soft_teacher/soft-teacher_faster-rcnn_r50-caffe_fpn_180k_semi-0.1-coco',
            ],
        ),
    ],
)
def test_configs_of_the_libraries_pass(library: Any, names: list[str]) -> None:
    for name in names:
        path = Path(library.__file__).parent / '.mim/configs' / f'{name}.py'
        check_config(Config.fromfile(path, import_custom_modules=False), name)


def test_what_others_read_is_not_known() -> None:
    """Classes of a user's, functions' own arguments, and variables of the file."""
    cfg = Config(
        dict(
            model=dict(
                type='MyModel',
                any='thing',
                head=dict(norm_cfg=dict(type='BN', requires_grad=True)),
            ),
            norm_cfg=dict(type='BN', requires_grad=True),
            custom_hooks=[dict(type='MyHook', often=3), dict(type='EMAHook', momentum=0.1)],
            train_cfg=dict(by_epoch=True, max_epochs=3),
            default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=3)),
        )
    )
    check_config(cfg)
    cfg.train_cfg.max_iters = 3
    with pytest.raises(UserError, match=r'EpochBasedTrainLoop has no argument .max_iters'):
        check_config(cfg)
