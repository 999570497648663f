"""Deformable attention through mmcv's own function, against sampling written out."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import mmdet
import mmdet.models
import mmseg
import mmseg.models
import pytest
import torch
from mmcv.ops import multi_scale_deform_attn
from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor

from tests.ops.test_detector import make_sample

DEVICES = ['cpu', pytest.param('cuda', marks=pytest.mark.gpu)]
SHAPES = torch.tensor([[5, 7], [3, 4], [1, 2]])
STARTS = torch.tensor([0, 35, 47])


def random_inputs(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Values of 2 images, 2 heads x 3; locations of 4 queries x 2 points, some outside the maps."""
    generator = torch.Generator().manual_seed(0)
    value = torch.randn(2, 49, 2, 3, generator=generator, dtype=torch.float64)
    places = torch.rand(2, 4, 2, 3, 2, 2, generator=generator, dtype=torch.float64) * 1.5 - 0.25
    weights = torch.rand(2, 4, 2, 3, 2, generator=generator, dtype=torch.float64)
    return value.to(dtype), places.to(dtype), weights.to(dtype)


def attend(value: Tensor, places: Tensor, weights: Tensor) -> Tensor:
    device = value.device
    return MultiScaleDeformableAttnFunction.apply(
        value, SHAPES.to(device), STARTS.to(device), places, weights, 64
    )


def sample(plane: Tensor, x: float, y: float) -> Tensor:
    """Bilinear in `[H, W, C]` at shares of its sides; pixels outside are zero."""
    height, width = plane.shape[:2]
    x, y = x * width - 0.5, y * height - 0.5
    total = plane.new_zeros(plane.shape[2])
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < height and 0 <= column < width:
                total = total + plane[row, column] * (1 - abs(x - column)) * (1 - abs(y - row))
    return total


def written_out(value: Tensor, places: Tensor, weights: Tensor) -> Tensor:
    batch, queries, heads, _levels, points, _ = places.shape
    output = value.new_zeros(batch, queries, heads, value.shape[-1])
    for b, q, h in torch.cartesian_prod(*map(torch.arange, (batch, queries, heads))).tolist():
        for level, (height, width) in enumerate(SHAPES.tolist()):
            start = int(STARTS[level])
            plane = value[b, start : start + height * width, h].reshape(height, width, -1)
            for point in range(points):
                x, y = places[b, q, h, level, point].tolist()
                output[b, q, h] += weights[b, q, h, level, point] * sample(plane, x, y)
    return output.flatten(2)


@pytest.mark.parametrize('device', DEVICES)
def test_forward(device: str) -> None:
    inputs = random_inputs()
    outside = (inputs[1] < 0) | (inputs[1] > 1)
    assert outside.any()
    assert not outside.all()
    output = attend(*(tensor.to(device) for tensor in inputs))
    torch.testing.assert_close(output.cpu(), written_out(*inputs))


@pytest.mark.parametrize('device', DEVICES)
def test_gradients(device: str) -> None:
    inputs = [tensor.to(device).requires_grad_() for tensor in random_inputs()]
    # Overlapping samples add up in any order on a GPU.
    assert torch.autograd.gradcheck(attend, inputs, nondet_tol=1e-9, fast_mode=True)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_at_the_end(dtype: torch.dtype, device: str) -> None:
    inputs = [tensor.to(device).requires_grad_() for tensor in random_inputs(dtype)]
    exact = [tensor.detach().float().requires_grad_() for tensor in inputs]
    output, expected = attend(*inputs), attend(*exact)
    assert output.dtype == dtype
    torch.testing.assert_close(output, expected.to(dtype), rtol=0, atol=0)
    output.sum().backward()
    expected.sum().backward()
    for ours, theirs in zip(inputs, exact, strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad.to(dtype), rtol=0, atol=0)


def deformable_detr() -> tuple[Any, dict[str, Any]]:
    """mmdet's own config at toy size, and an image with two boxes."""
    path = 'deformable_detr/deformable-detr_r50_16xb2-50e_coco.py'
    cfg = Config.fromfile(Path(mmdet.__file__).parent / '.mim/configs' / path).model
    cfg.backbone.update(depth=18, base_channels=8, init_cfg=None)
    cfg.neck.update(in_channels=[16, 32, 64], out_channels=16, norm_cfg=dict(num_groups=4))
    cfg.num_queries = 20
    cfg.positional_encoding.num_feats = 8
    cfg.bbox_head.update(num_classes=3, embed_dims=16)
    for part in (cfg.encoder, cfg.decoder):
        part.num_layers = 2
        for name in ('self_attn_cfg', 'cross_attn_cfg', 'ffn_cfg'):
            part.layer_cfg.get(name, {}).update(embed_dims=16)
        part.layer_cfg.ffn_cfg.update(feedforward_channels=32, ffn_drop=0.0)
    cfg.decoder.layer_cfg.self_attn_cfg.dropout = 0.0
    for part in (cfg.encoder, cfg.decoder):
        for name in ('self_attn_cfg', 'cross_attn_cfg'):
            if name in part.layer_cfg:
                part.layer_cfg[name].dropout = 0.0
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = mmdet.registry.MODELS.build(cfg)
    image = torch.randint(256, (3, 64, 64), generator=torch.Generator().manual_seed(0))
    return model, dict(inputs=[image], data_samples=[make_sample(64)])


def mask2former() -> tuple[Any, dict[str, Any]]:
    """mmseg's own config at toy size, and an image of three classes."""
    path = 'mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py'
    cfg = Config.fromfile(Path(mmseg.__file__).parent / '.mim/configs' / path).model
    cfg.data_preprocessor.size = (64, 64)
    cfg.backbone.update(depth=18, base_channels=8, norm_cfg=dict(type='BN'), init_cfg=None)
    head = cfg.decode_head
    head.update(in_channels=[8, 16, 32, 64], feat_channels=16, out_channels=16, num_classes=3)
    head.update(num_queries=10)
    head.loss_cls.class_weight = [1.0] * 3 + [0.1]
    head.train_cfg.num_points = 64
    head.positional_encoding.num_feats = head.pixel_decoder.positional_encoding.num_feats = 8
    head.pixel_decoder.norm_cfg.num_groups = 4
    for part in (head.pixel_decoder.encoder, head.transformer_decoder):
        part.num_layers = 2
        for name in ('self_attn_cfg', 'cross_attn_cfg', 'ffn_cfg'):
            part.layer_cfg.get(name, {}).update(embed_dims=16)
        part.layer_cfg.ffn_cfg.feedforward_channels = 32
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = mmseg.registry.MODELS.build(cfg)
    generator = torch.Generator().manual_seed(0)
    shape = (64, 64)
    drawn = SegDataSample(metainfo=dict(img_shape=shape, ori_shape=shape, pad_shape=shape))
    labels = torch.arange(3).repeat_interleave(22)[:64].expand(1, 64, 64).clone()
    drawn.gt_sem_seg = PixelData(data=labels)
    image = torch.randint(256, (3, *shape), generator=generator)
    return model, dict(inputs=[image], data_samples=[drawn])


@pytest.mark.parametrize('make', [deformable_detr, mask2former])
def test_a_network_steps_as_on_mmcvs_function(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def step() -> tuple[Tensor, dict[str, Tensor], int]:
        torch.manual_seed(0)
        model, data = make()
        model.init_weights()
        model.train()
        calls = []
        apply = MultiScaleDeformableAttnFunction.apply
        monkeypatch.setattr(
            MultiScaleDeformableAttnFunction,
            'apply',
            lambda *args: calls.append(1) or apply(*args),
        )
        torch.manual_seed(1)
        losses = model(**model.data_preprocessor(data, training=True), mode='loss')
        total, _ = model.parse_losses(losses)
        total.backward()
        monkeypatch.setattr(MultiScaleDeformableAttnFunction, 'apply', apply)
        found = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        return total.detach(), found, len(calls)

    theirs, their_gradients, none = step()
    # so that mmcv calls the operator, which it does on accelerators alone
    monkeypatch.setattr(multi_scale_deform_attn, 'IS_MLU_AVAILABLE', True)
    monkeypatch.setattr(torch.Tensor, 'is_mlu', True, raising=False)
    ours, our_gradients, calls = step()
    assert none == 0
    assert calls >= 2
    torch.testing.assert_close(ours, theirs)
    assert torch.isfinite(ours)
    assert our_gradients.keys() == their_gradients.keys()
    sampling = [name for name in our_gradients if 'sampling_offsets' in name]
    assert sampling
    for name, gradient in our_gradients.items():
        torch.testing.assert_close(gradient, their_gradients[name], rtol=1e-4, atol=1e-6, msg=name)
    assert any(our_gradients[name].abs().max() > 0 for name in sampling)
