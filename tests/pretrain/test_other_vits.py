"""Every method takes a step on a rotary ViT and on one without class token, or says why not."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from moca.errors import UserError
from tests.pretrain.tiny import ARCH, METHODS, random_views, tiny_method

ROTARY: dict[str, Any] = dict(
    ARCH, rope=dict(base=100.0), reg_tokens=4, norm_eps=1e-5, mlp='swiglu', mlp_hidden=48
)


@pytest.mark.parametrize('name', METHODS)
def test_a_step_on_a_rotary_vit(name: str) -> None:
    method = tiny_method(name, backbone=dict(type='PlainViT', arch=ROTARY, img_size=48))
    before = {key: value.clone() for key, value in method.named_parameters()}
    losses = method(**random_views(method), mode='loss')
    total = sum(value for key, value in losses.items() if 'loss' in key)
    assert math.isfinite(total.item())
    total.backward()
    reached = {key for key, value in method.named_parameters() if value.grad is not None}
    assert any('blocks.0.attn.qkv' in key for key in reached)
    assert before.keys() >= reached


@pytest.mark.parametrize('name', METHODS)
def test_a_step_without_a_class_token_or_the_reason(name: str) -> None:
    arch = dict(ARCH, class_token=False)
    backbone = dict(type='PlainViT', arch=arch, img_size=48)
    try:
        method = tiny_method(name, backbone=backbone)
        losses = method(**random_views(method), mode='loss')
    except UserError as error:
        assert 'class token' in str(error)  # noqa: PT017  either is right, a traceback is not
        return
    total = sum(value for key, value in losses.items() if 'loss' in key)
    assert torch.isfinite(total)
    total.backward()
