"""Layer decay against the published code's rule, written out by hand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed
from mmengine.config import Config
from mmengine.model import BaseModule, MMDistributedDataParallel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from moca.backbone import PlainViT
from moca.engine.layer_decay import format_groups
from moca.errors import UserError
from tests.configs.helpers import REPOSITORY, TINY_ARCH, shrink

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase)
LR, DECAY, WEIGHT_DECAY, DEPTH = 1e-3, 0.65, 0.05, 3


class Segmentor(BaseModule):
    """A backbone and a head, under the names of mmseg and mmdet."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__()
        arch = dict(patch_size=8, embed_dim=32, depth=DEPTH, num_heads=2, img_size=32)
        self.backbone = PlainViT(arch, **kwargs)
        self.decode_head = nn.Sequential(nn.Conv2d(32, 8, 1), nn.BatchNorm2d(8))


def build(model: nn.Module, **paramwise: Any) -> Any:
    return build_optim_wrapper(
        model,
        dict(
            type='OptimWrapper',
            constructor='LayerDepthOptimWrapperConstructor',
            paramwise_cfg=dict(layer_decay=DECAY) | paramwise,
            optimizer=dict(type='AdamW', lr=LR, weight_decay=WEIGHT_DECAY),
        ),
    )


def settings(model: nn.Module, wrapper: Any) -> dict[str, tuple[float, float]]:
    """Return {parameter name: (lr, weight decay)}, having checked that each occurs once."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found: dict[str, tuple[float, float]] = {}
    for group in wrapper.optimizer.param_groups:
        for parameter in group['params']:
            name = names[id(parameter)]
            assert name not in found
            found[name] = (group['lr'], group['weight_decay'])
    return found


def test_head_may_learn_faster_than_the_backbone() -> None:
    model = Segmentor()
    plain, faster = (settings(model, build(model, **more)) for more in ({}, {'head_lr_mult': 20}))
    for name, (lr, decay) in plain.items():
        factor = 20 if name.startswith('decode_head.') else 1
        assert faster[name] == (pytest.approx(factor * lr), decay)


@pytest.mark.parametrize('factor', [0, -1.0, float('nan'), float('inf')])
def test_factor_of_the_head_must_be_positive(factor: float) -> None:
    with pytest.raises(UserError, match=r'head_lr_mult=.*above 0'):
        build(Segmentor(), head_lr_mult=factor)


def beit_lr(name: str, depth: int = DEPTH, lr: float = LR, decay: float = DECAY) -> float:
    """BEiT's get_num_layer_for_vit and LayerDecayValueAssigner, for an mm model's names."""
    num_layers = depth + 2
    values = [decay ** (num_layers - 1 - i) for i in range(num_layers)]
    name = name.removeprefix('module.')
    if name.startswith(('backbone.cls_token', 'backbone.pos_embed', 'backbone.patch_embed')):
        layer = 0
    elif match := re.match(r'backbone\.blocks\.(\d+)\.', name):
        layer = int(match[1]) + 1
    else:
        layer = num_layers - 1
    return lr * values[layer]


def test_every_parameter_has_the_published_rate_and_decay() -> None:
    model = Segmentor()
    found = settings(model, build(model))
    assert set(found) == {name for name, _ in model.named_parameters()}
    for name, parameter in model.named_parameters():
        # BEiT, MAE: `len(param.shape) == 1 or name.endswith('.bias')`; pos_embed is decayed.
        decay = 0.0 if parameter.ndim == 1 or name.endswith('.bias') else WEIGHT_DECAY
        assert found[name] == pytest.approx((beit_lr(name), decay)), name


@pytest.mark.parametrize(
    ('config', 'lr', 'decay', 'weight_decay', 'no_decay', 'biases'),
    [
        # ADE20K UPerNet: AdamW 1e-4, wd .05, layer decay .65; pos_embed and cls_token decayed
        ('segmentation/ade20k/upernet', 1e-4, 0.65, 0.05, (), False),
        ('segmentation/cityscapes/upernet', 1e-4, 0.65, 0.05, (), False),
        # ViTDet: AdamW 1e-4, wd .1 (norms and pos_embed 0, biases not), layer decay .7
        ('detection/coco/mask-rcnn_sfp', 1e-4, 0.7, 0.1, ('pos_embed',), True),
        ('detection/coco/vitdet_cascade-mask-rcnn', 1e-4, 0.7, 0.1, ('pos_embed',), True),
        # iBOT and CAE on COCO: AdamW 1e-4 and 3e-4, wd .05, layer decay .75
        ('detection/coco/cascade-mask-rcnn_1x', 1e-4, 0.75, 0.05, (), False),
        ('detection/coco/mask-rcnn_1x', 3e-4, 0.75, 0.05, (), False),
    ],
)
def test_protocols_follow_their_published_rule(
    config: str,
    lr: float,
    decay: float,
    weight_decay: float,
    no_decay: tuple[str, ...],
    biases: bool,
) -> None:
    """Whole segmentors and detectors, with necks and heads, at a few channels."""
    cfg = shrink(Config.fromfile(REPOSITORY / 'configs' / f'{config}.py'))
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    found = settings(model, build_optim_wrapper(model, cfg.optim_wrapper))
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert set(found) == set(trained)
    depth = TINY_ARCH['depth']
    for name, parameter in trained.items():
        flat = parameter.ndim == 1 or name.endswith('.bias')
        of_norm = isinstance(model.get_submodule(name.rpartition('.')[0]), NORMS)
        if biases and name.endswith('.bias'):
            flat = of_norm
        if biases and type(model.get_submodule(name.rpartition('.')[0])).__name__ == 'LayerNorm2d':
            flat = False  # detectron2's own class is none of the norms that its rule knows
        decays = not flat and name.split('.')[-1] not in no_decay
        wanted = (beit_lr(name, depth, lr, decay), weight_decay if decays else 0.0)
        assert found[name] == pytest.approx(wanted), name
    assert found['backbone.pos_embed'][1] == (0.0 if no_decay else weight_decay)
    assert found.get('backbone.cls_token', (0.0, weight_decay))[1] == weight_decay
    rates = sorted({rate for rate, _ in found.values()})
    assert rates == pytest.approx([lr * decay**power for power in range(depth + 1, -1, -1)])


def test_options_of_weight_decay() -> None:
    model = Segmentor()
    found = settings(model, build(model, no_decay_names=['pos_embed', 'cls_token']))
    without = {name for name, (_, decay) in found.items() if decay == 0}
    assert {'backbone.pos_embed', 'backbone.cls_token'} <= without
    assert 'backbone.blocks.0.attn.qkv.weight' not in without
    found = settings(model, build(model, flat_decay=True))
    assert {decay for _, decay in found.values()} == {WEIGHT_DECAY}


def test_frozen_parameters_are_left_out() -> None:
    model = Segmentor(frozen=True)
    assert set(settings(model, build(model))) == {
        f'decode_head.{name}' for name, _ in model.decode_head.named_parameters()
    }


def test_model_wrapped_for_distributed_training(tmp_path: Path) -> None:
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1
    )
    try:
        model = Segmentor()
        wrapped = MMDistributedDataParallel(model)
        assert settings(model, build(wrapped)) == settings(model, build(model))
    finally:
        torch.distributed.destroy_process_group()


def test_table_counts_parameters() -> None:
    model = Segmentor()
    table = format_groups(build(model).optimizer.param_groups)
    counts = [int(row.split()[-2].replace(',', '')) for row in table.splitlines() if '.' in row]
    assert sum(counts) == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ('paramwise', 'message'),
    [(dict(layer_decay=1.5), r'not in \(0, 1\]'), (dict(decay_rate=0.9), 'decay_rate')],
)
def test_bad_options(paramwise: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(Segmentor(), **paramwise)


def test_backbone_without_layer_depth() -> None:
    with pytest.raises(UserError, match='get_layer_depth'):
        build(nn.Sequential(nn.Linear(2, 2)))
