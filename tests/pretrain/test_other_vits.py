"""Every method takes a step on a rotary ViT and on one without class token; none refuses either."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.pretrain.tiny import ARCH, METHODS, random_views, tiny_method

ROTARY: dict[str, Any] = dict(
    ARCH, rope=dict(base=100.0), reg_tokens=4, norm_eps=1e-5, mlp='swiglu', mlp_hidden=48
)
VITS: dict[str, dict[str, Any]] = {
    'rotary': ROTARY,
    'no class token': dict(ARCH, class_token=False),
    'rotary, no class token': dict(ROTARY, class_token=False),
}


@pytest.mark.parametrize('kind', VITS)
@pytest.mark.parametrize('name', METHODS)
def test_a_step(name: str, kind: str) -> None:
    method = tiny_method(name, backbone=dict(type='PlainViT', arch=VITS[kind], img_size=48))
    losses = method(**random_views(method), mode='loss')
    total = sum(value for key, value in losses.items() if 'loss' in key)
    assert math.isfinite(total.item())
    total.backward()
    trained = {key for key, value in method.named_parameters() if value.requires_grad}
    reached = {key for key, value in method.named_parameters() if value.grad is not None}
    assert reached == trained  # DDP waits for every one
    assert any('blocks.0.attn.qkv' in key for key in reached)
    assert any('reg_token' in key for key in reached) == ('rotary' in kind)
    assert any('cls_token' in key for key in reached) == (kind == 'rotary')
