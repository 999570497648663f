"""The numbers of every published recipe, written down from its source and not from our configs.

Rates are those of closed forms; the sources are named where a row begins.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS, init_default_scope

import moca.transfer  # noqa: F401  its schedulers are registered
from tests.configs.helpers import REPOSITORY

FOUR = (3, 5, 7, 11)


def poly(step: int, total: int, power: float, least: float = 0.0) -> float:
    """mmcv 1's, of a rate of 1, but that mmengine ends it at the last step and not one after."""
    return (1 - least) * (1 - step / (total - 1)) ** power + least


def warm(step: int, length: int, start: float) -> float:
    """mmcv 1's linear warm-up, which multiplies the schedule; mmengine ends it a step earlier."""
    return 1 - (1 - min(step / (length - 1), 1)) * (1 - start)


def adamw_160k(step: int) -> float:
    """BEiT, MAE, iBOT: warm-up of 1,500 from 1e-6, then linear to 0."""
    return warm(step, 1500, 1e-6) * poly(step, 160_000, 1.0)


def adamw_40k(step: int) -> float:
    """DINOv2, dinov2_vitb14_ade20k_linear_config.py."""
    return warm(step, 1500, 1e-6) * poly(step, 40_000, 1.0)


def dinov3(step: int) -> float:
    """DINOv3, WarmupOneCycleLR with config-ade20k-linear-training.yaml."""
    if step < 1500:
        return (1 - (1 - step / 1500) * (1 - 1e-6)) * (1 - step / 40_000)
    return (1 + math.cos(math.pi * (step + 1) / 40_000)) / 2


def dinov3_depth(step: int) -> float:
    """DINOv3, eval/depth: a third of the steps warms up from a thousandth."""
    if step < 12_800:
        return 1e-3 + (1 + math.cos(math.pi * step / 38_400)) / 2 * step / 12_800
    least = 1 / 25_000
    return least + (1 - least) * (1 + math.cos(math.pi * (step + 1) / 38_400)) / 2


def segmenter(total: int, rate: float) -> Callable[[int], float]:
    """Segmenter, segm/optim/scheduler.py: power .9 down to 1e-5."""
    return lambda step: poly(step, total, 0.9, 1e-5 / rate)


def steps(total: int, warmup: int, *falls: int) -> Callable[[int], float]:
    """mmdet's and detectron2's: warm-up from 1e-3, then a tenth after each fall."""
    return lambda step: warm(step, warmup, 1e-3) * 0.1 ** sum(step >= fall for fall in falls)


def eomt(total: int, first: int, second: int) -> Callable[[int], float]:
    """tue-mps/eomt, two_stage_warmup_poly_schedule.py, of the backbone: 0, linear, power .9."""

    def rate(step: int) -> float:
        if step < first + second:
            return max(step - first, 0) / second
        return (1 - (step - first - second) / (total - first - second)) ** 0.9

    return rate


class Row(NamedTuple):
    """One recipe: optimizer, what of the backbone is read, batch, length, rates over time."""

    lr: float
    weight_decay: float
    layer_decay: float | None
    drop_path: float
    blocks: tuple[int, ...]
    final_norm: bool
    frozen: bool
    batch: int
    length: int
    warmup: int
    rate: Callable[[int], float]


LAST = (-1,)
GOLDEN = {
    # bytedance/ibot, evaluation/semantic_segmentation/configs/upernet and its README;
    # facebookresearch/mae, appendix A.4: no final norm, lr 1e-4
    'segmentation/ade20k/upernet': Row(
        1e-4, 0.05, 0.65, 0.1, FOUR, False, False, 16, 160_000, 1500, adamw_160k
    ),
    'segmentation/ade20k/upernet_ibot': Row(
        8e-5, 0.05, 0.65, 0.1, FOUR, True, False, 16, 160_000, 1500, adamw_160k
    ),
    # bytedance/ibot, configs/linear and its launch command
    'segmentation/ade20k/linear-4layer': Row(
        8e-4, 0.05, None, 0.0, FOUR, True, True, 16, 160_000, 1500, adamw_160k
    ),
    # facebookresearch/dinov2
    'segmentation/ade20k/linear-bn': Row(
        1e-3, 1e-4, None, 0.0, LAST, True, True, 16, 40_000, 1500, adamw_40k
    ),
    'segmentation/ade20k/linear-bn_4layer': Row(
        1e-3, 1e-4, None, 0.0, (8, 9, 10, 11), True, True, 16, 40_000, 1500, adamw_40k
    ),
    # facebookresearch/dinov3
    'segmentation/ade20k/linear-bn_dinov3': Row(
        1e-3, 1e-3, None, 0.0, LAST, True, True, 16, 40_000, 1500, dinov3
    ),
    # facebookresearch/dinov3, eval/depth
    'depth/nyu_linear': Row(
        3e-4, 1e-4, None, 0.0, LAST, True, True, 16, 38_400, 12_800, dinov3_depth
    ),
    # tue-mps/eomt, configs/dinov2 and dinov3: rates of the backbone
    'segmentation/ade20k/eomt': Row(
        *(1e-4, 0.05, 0.8, 0.0, LAST, True, False, 16, 39_153, 1500), eomt(39_153, 500, 1000)
    ),
    'segmentation/ade20k/eomt_dinov3': Row(
        *(2e-4, 0.05, 1.0, 0.0, LAST, True, False, 16, 20_208, 5000), eomt(20_208, 2000, 3000)
    ),
    'segmentation/cityscapes/eomt': Row(
        *(1e-4, 0.05, 0.8, 0.0, LAST, True, False, 16, 19_795, 1500), eomt(19_795, 500, 1000)
    ),
    'detection/coco/eomt_instance': Row(
        *(1e-4, 0.05, 0.8, 0.0, LAST, True, False, 16, 88_692, 1500), eomt(88_692, 500, 1000)
    ),
    'detection/coco/eomt_instance_dinov3': Row(
        *(2e-4, 0.05, 0.8, 0.0, LAST, True, False, 16, 88_692, 5000), eomt(88_692, 2000, 3000)
    ),
    'detection/coco/eomt_panoptic': Row(
        *(1e-4, 0.05, 0.8, 0.0, LAST, True, False, 16, 88_692, 1500), eomt(88_692, 500, 1000)
    ),
    'detection/coco/eomt_panoptic_dinov3': Row(
        *(2e-4, 0.05, 0.8, 0.0, LAST, True, False, 16, 88_692, 5000), eomt(88_692, 2000, 3000)
    ),
    # rstrudel/segmenter, config.yml
    'segmentation/ade20k/linear-finetune': Row(
        1e-3, 0.0, None, 0.1, LAST, True, False, 8, 160_000, 0, segmenter(160_000, 1e-3)
    ),
    'segmentation/cityscapes/linear': Row(
        1e-2, 0.0, None, 0.0, LAST, True, True, 8, 80_000, 0, segmenter(80_000, 1e-2)
    ),
    'segmentation/cityscapes/mask-finetune': Row(
        1e-2, 0.0, None, 0.1, LAST, True, False, 8, 80_000, 0, segmenter(80_000, 1e-2)
    ),
    # bytedance/ibot, evaluation/object_detection and its README: 7330 steps an epoch
    'detection/coco/cascade-mask-rcnn_1x': Row(
        *(1e-4, 0.05, 0.75, 0.2, FOUR, False, False, 16, 87_960, 500),
        steps(87_960, 500, 58_640, 80_630),
    ),
    # lxtGH/CAE: 3665 steps an epoch
    'detection/coco/mask-rcnn_1x': Row(
        *(3e-4, 0.05, 0.75, 0.2, FOUR, False, False, 32, 43_980, 500),
        steps(43_980, 500, 32_985, 40_315),
    ),
    # detectron2, mask_rcnn_vitdet_b_100ep.py
    'detection/coco/vitdet_mask-rcnn': Row(
        *(1e-4, 0.1, 0.7, 0.1, LAST, False, False, 64, 184_375, 250),
        steps(184_375, 250, 163_889, 177_546),
    ),
    'detection/coco/vitdet_cascade-mask-rcnn': Row(
        *(1e-4, 0.1, 0.7, 0.1, LAST, False, False, 64, 184_375, 250),
        steps(184_375, 250, 163_889, 177_546),
    ),
}

# Segmenter's and mmseg's augmentation: what, and with which numbers.
SEGMENTATION = {
    'ade20k': [
        ('RandomResize', dict(scale=(2048, 512), ratio_range=(0.5, 2.0), keep_ratio=True)),
        ('RandomCrop', dict(crop_size=(512, 512), cat_max_ratio=0.75)),
        ('RandomFlip', dict(prob=0.5)),
        ('PhotoMetricDistortion', {}),
    ],
    'cityscapes': [
        ('RandomResize', dict(scale=(2048, 1024), ratio_range=(0.5, 2.0), keep_ratio=True)),
        ('RandomCrop', dict(crop_size=(768, 768), cat_max_ratio=0.75)),
        ('RandomFlip', dict(prob=0.5)),
        ('PhotoMetricDistortion', {}),
    ],
}
# window and stride of the sliding test: iBOT, DINOv2 and DINOv3; Segmenter
WINDOWS = {
    'ade20k': (512, 341),
    'ade20k/linear-finetune': (512, 512),
    'cityscapes': (768, 512),
}


def read(name: str) -> Config:
    return Config.fromfile(REPOSITORY / f'configs/{name}.py')


@functools.cache
def rates(schedule: str, length: int, lr: float) -> list[float]:
    """The rate of every step, by the schedulers of a config (as text)."""
    init_default_scope('mmengine')
    groups = [dict(params=[torch.nn.Parameter(torch.zeros(1))], part='backbone')]
    optimizer = torch.optim.SGD(groups, lr=lr)
    built = [
        PARAM_SCHEDULERS.build({**each, 'optimizer': optimizer})
        for each in Config.fromstring(schedule, '.py').param_scheduler
    ]
    found = []
    for _ in range(length):
        found.append(optimizer.param_groups[0]['lr'])
        for each in built:
            each.step()
    return found


@pytest.mark.parametrize('name', GOLDEN)
def test_optimizer_backbone_and_batch(name: str) -> None:
    cfg, row = read(name), GOLDEN[name]
    backbone, wrapper = cfg.model.backbone, cfg.optim_wrapper
    assert wrapper.optimizer.lr == row.lr
    assert wrapper.optimizer.weight_decay == row.weight_decay
    assert (wrapper.get('paramwise_cfg') or {}).get('layer_decay') == row.layer_decay
    assert backbone.get('drop_path_rate', 0.0) == row.drop_path
    assert tuple(backbone.get('out_indices', LAST)) == row.blocks
    assert backbone.get('final_norm', True) == row.final_norm
    assert backbone.get('frozen', False) == row.frozen
    assert cfg.auto_scale_lr.base_batch_size == row.batch
    assert cfg.train_cfg.max_iters == row.length


@pytest.mark.parametrize('name', GOLDEN)
def test_rates_at_the_start_the_end_of_warm_up_in_the_middle_and_last(name: str) -> None:
    cfg, row = read(name), GOLDEN[name]
    text = f'param_scheduler = {[dict(each) for each in cfg.param_scheduler]!r}'
    found = rates(text, row.length, row.lr)
    warmup = row.warmup
    places = {0, 1, warmup // 2, max(warmup - 1, 0), warmup, row.length // 2, row.length - 1}
    for step in sorted(places):
        expected = row.lr * row.rate(step)
        assert found[step] == pytest.approx(expected, rel=2e-4, abs=1e-12), step


@pytest.mark.parametrize('name', [name for name in GOLDEN if 'eomt' in name])
def test_images_and_clipping_of_eomt(name: str) -> None:
    """tue-mps/eomt, datasets/transforms.py: ranges of sizes, and no color on COCO."""
    cfg = read(name)
    size = 640 if 'coco' in name else 1024 if 'cityscapes' in name else 512
    pipeline = {step['type']: step for step in cfg.train_dataloader.dataset.pipeline}
    pipeline |= {step['type']: step for step in pipeline['RedrawEmpty']['transforms']}
    low = 0.1 if 'coco' in name else 0.5
    assert pipeline['RandomResize']['scale'] == (size, size)
    assert pipeline['RandomResize']['ratio_range'] == (low, 2.0)
    assert pipeline['RandomCrop']['crop_size'] == pipeline['Pad']['size'] == (size, size)
    assert ('PhotoMetricDistortion' in pipeline) == ('coco' not in name)
    assert cfg.optim_wrapper.clip_grad.max_norm == 0.01
    query_blocks = cfg.optim_wrapper.paramwise_cfg.get('decay_query_blocks', True)
    assert query_blocks == (name.split('/')[1:] == ['ade20k', 'eomt_dinov3'] or 'v3' not in name)


# a preset is part of the name by which tables tell runs apart
EOMT_NAMES = {
    'segmentation/ade20k/eomt': 'ade20k_eomt',
    'segmentation/ade20k/eomt_dinov3': 'ade20k_eomt_dinov3',
    'segmentation/cityscapes/eomt': 'cityscapes_eomt',
    'detection/coco/eomt_instance': 'coco_instance_eomt',
    'detection/coco/eomt_instance_dinov3': 'coco_instance_eomt_dinov3',
    'detection/coco/eomt_panoptic': 'coco_panoptic_eomt',
    'detection/coco/eomt_panoptic_dinov3': 'coco_panoptic_eomt_dinov3',
}


def test_settings_of_eomt_are_never_put_side_by_side() -> None:
    assert set(EOMT_NAMES) == {name for name in GOLDEN if 'eomt' in name}
    for name, protocol in EOMT_NAMES.items():
        assert read(name).protocol.name == read(name).protocol.published == protocol
        assert ('DINOv3' in read(name).protocol.title) == ('dinov3' in name)


PROBED = [n for n in GOLDEN if n.startswith('segmentation') and 'eomt' not in n]


@pytest.mark.parametrize('name', PROBED)
def test_images_of_segmentation(name: str) -> None:
    cfg, data = read(name), name.split('/')[1]
    steps = [
        (step['type'], {k: v for k, v in step.items() if k != 'type'})
        for step in cfg.train_dataloader.dataset.pipeline
        if not str(step['type']).startswith(('Load', 'Pack'))
    ]
    assert [(kind, dict(values)) for kind, values in steps] == SEGMENTATION[data]
    (test,) = [s for s in cfg.test_dataloader.dataset.pipeline if s['type'] == 'Resize']
    assert (test['scale'], test['keep_ratio']) == (SEGMENTATION[data][0][1]['scale'], True)
    part = name.split('/', 1)[1]
    window, stride = WINDOWS.get(part, WINDOWS[data])
    assert cfg.model.test_cfg.crop_size == (window, window)
    assert cfg.model.test_cfg.stride == (stride, stride)


def test_images_and_first_momentum_of_depth() -> None:
    """facebookresearch/dinov3, eval/depth; the rates of the first beta at t as recorded."""
    cfg = read('depth/nyu_linear')
    steps = {step['type']: step for step in cfg.train_dataloader.dataset.pipeline}
    assert (steps['CutFrame']['rows'], steps['CutFrame']['columns']) == ((45, 472), (43, 608))
    assert (steps['RandomRotate']['prob'], steps['RandomRotate']['degree']) == (0.5, 2.5)
    assert steps['RandomRotate']['seg_pad_val'] == 0
    assert steps['RandomFlip']['prob'] == steps['RandomDepthColors']['prob'] == 0.5
    assert steps['RandomCrop']['crop_size'] == (416, 544)
    wrapper = cfg.optim_wrapper
    assert (wrapper.optimizer.betas[1], wrapper.clip_grad.max_norm) == (0.99, 35)
    evaluator = cfg.val_evaluator
    assert (evaluator.min_depth_eval, evaluator.max_depth_eval) == (1e-3, 10)
    assert evaluator.crop_type == 'nyu_crop'
    init_default_scope('mmengine')
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], betas=(0.9, 0.99))
    beta = PARAM_SCHEDULERS.build({**cfg.param_scheduler[1], 'optimizer': optimizer})
    found = []
    for _ in range(38_400):
        found.append(optimizer.param_groups[0]['betas'])
        beta.step()
    assert {each[1] for each in found} == {0.99}
    for step, value in {
        **dict.fromkeys((0, 1, 12_799), 0.0),
        12_800: 0.85,
        12_801: 0.8500000003764955,
        25_600: 0.9,
        38_399: 0.9499999996235045,
    }.items():
        assert found[step][0] == pytest.approx(value, abs=1e-12), step


@pytest.mark.parametrize('name', [name for name in GOLDEN if 'vitdet' in name])
def test_images_of_vitdet(name: str) -> None:
    """detectron2, configs/common/coco_loader_lsj.py."""
    pipeline = {step['type']: step for step in read(name).train_dataloader.dataset.pipeline}
    assert pipeline['RandomResize']['scale'] == (1024, 1024)
    assert pipeline['RandomResize']['ratio_range'] == (0.1, 2.0)
    assert pipeline['RandomCrop']['crop_size'] == (1024, 1024)
    assert pipeline['RandomFlip']['prob'] == 0.5


@pytest.mark.parametrize('name', [name for name in GOLDEN if '1x' in name])
def test_images_of_twelve_epochs(name: str) -> None:
    """iBOT's cascade_rcnn configs, as DETR: a resize, or a resize, a crop and a resize."""
    text = str(read(name).train_dataloader.dataset.pipeline)
    for side in range(480, 801, 32):
        assert f'({side}, 1333)' in text or f'(1333, {side})' in text, side
    assert '(384, 600)' in text


def test_every_published_config_is_here() -> None:
    folder = REPOSITORY / 'configs'
    found = set()
    for path in [
        *folder.glob('segmentation/*/*.py'),
        *folder.glob('detection/*/*.py'),
        *folder.glob('depth/*.py'),
    ]:
        name = str(Path(path).relative_to(folder).with_suffix(''))
        protocol: Any = read(name).protocol
        # derived ones of Cityscapes and a full-attention ViTDet are ours, and say so
        if protocol.get('published'):
            found.add(name)
    assert found <= set(GOLDEN)
