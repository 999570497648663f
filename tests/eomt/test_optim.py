"""Groups of parameters, and the two schedules of a run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import nn

from moca.engine.amp import AutocastOptimWrapper
from moca.eomt.optim import MaskTransformerOptimWrapperConstructor, TwoPartPolyLR
from moca.errors import UserError
from tests.eomt.tiny import tiny_network


class Holder(nn.Module):
    def __init__(self, **vit: Any) -> None:
        super().__init__()
        self.network = tiny_network(**vit)


def a_constructor(lr: float = 1.0, **options: Any) -> MaskTransformerOptimWrapperConstructor:
    optimizer = dict(type='AdamW', lr=lr, weight_decay=0.05)
    return MaskTransformerOptimWrapperConstructor(dict(optimizer=optimizer), options)


# of four blocks the last two see queries; .8 is taken once a block below the last
TABLE = {
    'backbone.patch_embed.proj.weight': (0.512, 0.512, 'backbone'),
    'backbone.pos_embed': (0.512, 0.512, 'backbone'),
    'backbone.cls_token': (0.512, 0.512, 'backbone'),
    'backbone.reg_token': (0.512, 0.512, 'backbone'),
    'backbone.blocks.0.norm1.weight': (0.512, 0.512, 'backbone'),
    'backbone.blocks.1.attn.qkv.bias': (0.64, 0.64, 'backbone'),
    'backbone.blocks.2.mlp.fc1.weight': (0.8, 1.0, 'backbone'),
    'backbone.blocks.3.mlp.fc2.bias': (1.0, 1.0, 'backbone'),
    'backbone.norm.weight': (1.0, 1.0, 'backbone'),
    'q.weight': (1.0, 1.0, 'heads'),
    'class_head.bias': (1.0, 1.0, 'heads'),
    'mask_head.4.weight': (1.0, 1.0, 'heads'),
    'upscale.1.norm.bias': (1.0, 1.0, 'heads'),
}


@pytest.mark.parametrize('decay_query_blocks', [True, False])
def test_rates_and_weight_decay_of_every_parameter(decay_query_blocks: bool) -> None:
    made = a_constructor(layer_decay=0.8, decay_query_blocks=decay_query_blocks)
    found: dict[str, tuple[float, str]] = {}
    for group in made.parameter_groups(Holder()):
        assert group['weight_decay'] == 0.05
        for name in group['param_names']:
            assert name not in found
            found[name.removeprefix('network.')] = group['lr'], group['part']
    assert set(found) == {name for name, _ in tiny_network().named_parameters()}
    for name, (decayed, kept, part) in TABLE.items():
        wanted = decayed if decay_query_blocks else kept
        assert found[name] == (pytest.approx(wanted), part), name


def test_a_factor_of_the_backbone_and_what_is_refused() -> None:
    groups = a_constructor(layer_decay=1.0, backbone_lr_mult=0.1).parameter_groups(Holder())
    assert {(group['part'], group['lr']) for group in groups} == {('backbone', 0.1), ('heads', 1.0)}
    groups = a_constructor(layer_decay=0.8).parameter_groups(Holder(frozen=True))
    assert {group['part'] for group in groups} == {'heads'}
    with pytest.raises(UserError, match='give a number above 0'):
        a_constructor(layer_decay=0.8, backbone_lr_mult=0)
    with pytest.raises(UserError, match='layer_decy'):
        a_constructor(layer_decy=0.8)


def test_the_backbone_waits_for_the_heads() -> None:
    """Of 10 steps, 2 are the heads' warm-up, then 4 the backbone's."""
    model = Holder()
    wrapper = a_constructor(lr=0.01, layer_decay=0.8)(model)
    scheduler = TwoPartPolyLR(wrapper, warmup=(2, 4), begin=0, end=10, by_epoch=False)
    rates: dict[str, list[float]] = {'backbone': [], 'heads': []}
    first = {name: value.clone() for name, value in model.named_parameters()}
    for step in range(10):
        for group in wrapper.optimizer.param_groups:
            if group['lr'] and group['layer'] == 5:  # the final norm, and the heads
                rates[group['part']].append(group['lr'] / 0.01)
        loss = sum(p.square().sum() for p in model.parameters())
        wrapper.update_params(loss)
        scheduler.step()
        if step == 1:
            moved = {n for n, p in model.named_parameters() if not torch.equal(p, first[n])}
            assert moved
            assert not any('backbone' in name for name in moved)
    poly = [(1 - t / 8) ** 0.9 for t in range(8)]
    assert rates['heads'][:9] == pytest.approx([0.5, *poly])
    backbone = [0.25, 0.5, 0.75, *[(1 - t / 4) ** 0.9 for t in range(4)]]
    assert rates['backbone'] == pytest.approx(backbone)


def test_a_schedule_goes_on_where_it_was() -> None:
    def made() -> tuple[OptimWrapper, TwoPartPolyLR]:
        wrapper = a_constructor(lr=0.01, layer_decay=0.8)(Holder())
        return wrapper, TwoPartPolyLR(wrapper, warmup=(2, 4), begin=0, end=10, by_epoch=False)

    whole, scheduler = made()
    saved: dict[str, Any] = {}
    for step in range(7):
        if step == 4:
            saved = dict(optimizer=whole.state_dict(), scheduler=scheduler.state_dict())
        whole.optimizer.step()
        scheduler.step()
    resumed, again = made()
    resumed.load_state_dict(saved['optimizer'])
    again.load_state_dict(saved['scheduler'])
    for _ in range(3):
        resumed.optimizer.step()
        again.step()
    assert len({group['lr'] for group in whole.param_groups}) > 1
    assert [g['lr'] for g in resumed.param_groups] == [g['lr'] for g in whole.param_groups]


def test_a_schedule_needs_groups_with_parts() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    with pytest.raises(UserError, match='MaskTransformerOptimWrapperConstructor'):
        TwoPartPolyLR(optimizer, begin=0, end=10, by_epoch=False)


@pytest.mark.parametrize('scale', [1.0, 2.0**12])
def test_gradients_are_clipped_after_the_scale_of_float16_is_gone(scale: float) -> None:
    """Each of 4 gradients is 2: clipped to a norm of .01, a weight moves by .01 / 2."""
    layer = nn.Linear(4, 1, bias=False)
    nn.init.constant_(layer.weight, 1.0)
    wrapper = AutocastOptimWrapper(
        'float16',
        init_scale=scale,
        optimizer=torch.optim.SGD(layer.parameters(), lr=1.0),
        clip_grad=dict(max_norm=0.01),
    )
    with wrapper.optim_context(layer):
        loss = layer(torch.ones(2, 4)).sum()
    wrapper.update_params(loss)
    torch.testing.assert_close(layer.weight.detach(), torch.full((1, 4), 1 - 0.005))


@pytest.mark.gpu
def test_gradients_are_clipped_after_unscaling() -> None:
    from mmengine.optim import AmpOptimWrapper

    changes = []
    for scale in (1.0, 2.0**16):
        layer = nn.Linear(4, 4).cuda()
        nn.init.constant_(layer.weight, 1.0)
        nn.init.constant_(layer.bias, 0.0)
        optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
        wrapper = AmpOptimWrapper(
            optimizer=optimizer, clip_grad=dict(max_norm=0.01), loss_scale=scale
        )
        with wrapper.optim_context(layer):
            loss = layer(torch.ones(2, 4, device='cuda')).sum()
        wrapper.update_params(loss)
        changes.append(layer.weight.detach() - 1)
    torch.testing.assert_close(*changes)
