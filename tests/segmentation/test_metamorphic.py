"""What must not change a score: one view, the batch, the order; and what a permutation changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn

from moca.segmentation import AveragingTTAModel, LeanEncoderDecoder, PresentIoUMetric
from tests.backbone.helpers import TINY, randomize

CLASSES = 4
SIZES = [(48, 64), (32, 80), (48, 64), (40, 33)]
WIDE: dict[str, Any] = dict(in_channels=[32] * 4, in_index=[0, 1, 2, 3])
NORM = dict(type='BN')
HEADS: dict[str, dict[str, Any]] = {
    'linear': dict(type='LinearSegHead', in_channels=32),
    'linear_bn': dict(type='LinearSegHead', in_channels=32, norm_cfg=NORM),
    'linear_4layer': dict(type='LinearSegHead', input_transform='resize_concat', **WIDE),
    'mask': dict(
        type='MaskTransformerHead',
        in_channels=32,
        channels=32,
        embed_dims=32,
        num_layers=1,
        num_heads=2,
    ),
    'upernet': dict(
        type='LeanUPerHead', pool_scales=(1, 2), channels=8, norm_cfg=NORM, align_corners=False
    )
    | WIDE,
    'fcn': dict(type='mmseg.FCNHead', in_channels=32, channels=8, num_convs=1, norm_cfg=NORM),
    'sigmoid': dict(
        type='LinearSegHead', in_channels=32, num_classes=2, out_channels=1, threshold=0.5
    ),
    'sigmoid_classes': dict(
        type='LinearSegHead',
        in_channels=32,
        loss_decode=dict(type='mmseg.CrossEntropyLoss', use_sigmoid=True),
    ),
}
MODES: dict[str, dict[str, Any]] = {
    'whole': dict(mode='whole'),
    'slide': dict(mode='slide', crop_size=(32, 48), stride=(20, 32)),
}
Areas = Sequence[tuple[torch.Tensor, ...]]

each = [pytest.mark.parametrize('mode', MODES), pytest.mark.parametrize('name', HEADS)]


def segmentor(name: str, mode: str) -> LeanEncoderDecoder:
    """A tiny segmentor of random weights, whose predictions vary."""
    four = name in ('linear_4layer', 'upernet')
    cfg = ConfigDict(
        type='LeanEncoderDecoder',
        data_preprocessor=dict(type='mmseg.SegDataPreProcessor', mean=[120.0] * 3, std=[60.0] * 3),
        backbone=dict(
            type='PlainViT',
            arch=dict(TINY, patch_size=16),
            out_indices=(0, 1, 2, 2) if four else (-1,),
        ),
        decode_head={'num_classes': CLASSES, **HEADS[name]},
        test_cfg=dict(MODES[mode]),
    )
    if name == 'upernet':
        cfg.neck = dict(type='mmseg.Feature2Pyramid', embed_dim=32, norm_cfg=NORM)
    if not four:
        cfg.decode_head.in_index = 0
    model = MODELS.build(cfg)
    randomize(model)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
    if name.startswith('sigmoid'):
        nn.init.zeros_(model.decode_head.conv_seg.bias)
    return model.eval()


def samples(classes: int, order: Sequence[int] = (0, 1, 2, 3)) -> list[dict[str, Any]]:
    """Images of several sizes with labels, as a data set gives them."""
    found = []
    for number in order:
        random = np.random.default_rng(number)
        size = SIZES[number]
        image = torch.from_numpy(random.integers(0, 256, (3, *size), dtype=np.uint8))
        label = torch.from_numpy(random.integers(0, classes, size))
        label[:3] = 255
        sample = SegDataSample(
            metainfo=dict(ori_shape=size, img_shape=size, img_path=f'{number}.png'),
            gt_sem_seg=PixelData(data=label[None]),
        )
        found.append(dict(inputs=image, data_samples=sample))
    return found


@torch.no_grad()
def areas(
    model: Any, data: Sequence[dict[str, Any]], batch: int = 1, views: bool = False
) -> tuple[dict[str, float], Areas]:
    """The metrics of a test, and the areas of each image."""
    metric = PresentIoUMetric()
    inner = model.module if views else model
    metric.dataset_meta = dict(classes=[str(c) for c in range(inner.decode_head.num_classes)])
    for start in range(0, len(data), batch):
        parts = data[start : start + batch]
        collated = {key: [part[key] for part in parts] for key in parts[0]}
        if views:
            collated = {key: [value] for key, value in collated.items()}
        metric.process({}, [sample.to_dict() for sample in model.test_step(collated)])
    results = list(metric.results)
    return metric.evaluate(len(data)), results


def classes_of(model: LeanEncoderDecoder) -> int:
    return int(model.decode_head.num_classes)


def assert_same(one: Areas, other: Areas) -> None:
    for mine, theirs in zip(one, other, strict=True):
        for area, expected in zip(mine, theirs, strict=True):
            # two classes that tie but for rounding may change places in a pixel
            assert (area - expected).abs().max() <= 2


@each[0]
@each[1]
def test_one_view_is_the_plain_test(name: str, mode: str) -> None:
    model = segmentor(name, mode)
    data = samples(classes_of(model))
    _, plain = areas(model, data)
    assert sum(row[2] for row in plain).count_nonzero() > 1  # several classes are predicted
    averaging = AveragingTTAModel(module=model)
    _, found = areas(averaging, samples(classes_of(model)), views=True)
    assert_same(found, plain)


@each[0]
@each[1]
def test_batches_change_nothing(name: str, mode: str) -> None:
    model = segmentor(name, mode)
    _, plain = areas(model, samples(classes_of(model)))
    _, found = areas(model, samples(classes_of(model)), batch=2)  # of two sizes each
    assert_same(found, plain)
    order = (0, 2, 1, 3)  # the first two are of one size
    _, again = areas(model, samples(classes_of(model), order), batch=2)
    assert_same([again[order.index(number)] for number in range(4)], plain)


@each[0]
@each[1]
def test_the_order_changes_nothing(name: str, mode: str) -> None:
    model = segmentor(name, mode)
    plain, _ = areas(model, samples(classes_of(model)))
    shuffled, _ = areas(model, samples(classes_of(model), (3, 1, 0, 2)))
    assert shuffled == pytest.approx(plain, nan_ok=True)


@each[0]
@each[1]
def test_permuted_classes_permute_the_scores(name: str, mode: str) -> None:
    model = segmentor(name, mode)
    count = classes_of(model)
    before, plain = areas(model, samples(count))
    order = torch.tensor([1, 0] if count == 2 else [2, 0, 3, 1])  # new class k was order[k]
    permute(model, order)
    data = samples(count)
    for part in data:
        label = part['data_samples'].gt_sem_seg.data
        inverse = torch.full((256,), 255)
        inverse[order] = torch.arange(count)
        part['data_samples'].gt_sem_seg.data = inverse[label]
    after, found = areas(model, data)
    assert_same([tuple(area[order] for area in row) for row in plain], found)
    assert after == pytest.approx(before, abs=0.2, nan_ok=True)


@torch.no_grad()
def permute(model: LeanEncoderDecoder, order: torch.Tensor) -> None:
    """Give a head's classes other numbers."""
    head = model.decode_head
    if head.out_channels == 1:
        head.conv_seg.weight.neg_()
        head.conv_seg.bias.neg_()
    elif hasattr(head, 'cls_emb'):
        head.cls_emb.copy_(head.cls_emb[:, order])
        head.mask_norm.weight.copy_(head.mask_norm.weight[order])
        head.mask_norm.bias.copy_(head.mask_norm.bias[order])
    else:
        head.conv_seg.weight.copy_(head.conv_seg.weight[order])
        head.conv_seg.bias.copy_(head.conv_seg.bias[order])
