"""Attention weights against a softmax written out from the raw weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from moca.backbone import PlainViT
from moca.errors import UserError
from moca.visualize.features import attention_over, attention_weights, class_attention

ARCH = dict(patch_size=8, embed_dim=24, depth=3, num_heads=3, img_size=32)


def randomized(**settings: Any) -> PlainViT:
    """A ViT in eval mode whose every parameter matters: biases, norms and scales are random."""
    arch = {**ARCH, **settings.pop('arch', {})}
    model = PlainViT(arch, **settings).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5, generator=generator)
    return model


def by_hand(attention: Any, x: torch.Tensor, normed: bool) -> np.ndarray:
    """Weights of one image, token by token, in numpy: ``[heads, N, N]``."""
    weight, bias = (p.detach().double().numpy() for p in attention.qkv.parameters())
    tokens = x[0].double().numpy()
    channels, heads = tokens.shape[1], 3
    size = channels // heads
    query, key = (
        (tokens @ weight[i * channels : (i + 1) * channels].T + bias[i * channels :][:channels])
        for i in (0, 1)
    )
    found = np.zeros((heads, len(tokens), len(tokens)))
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        for i in range(len(tokens)):
            q, keys = query[i, part], key[:, part]
            if normed:
                q, keys = norm(q, attention.q_norm), np.stack(
                    [norm(k, attention.k_norm) for k in keys]
                )  # fmt: skip
            products = np.array([q @ k for k in keys]) / size**0.5
            powers = np.exp(products - products.max())
            found[head, i] = powers / powers.sum()
    return found


def norm(x: np.ndarray, module: Any) -> np.ndarray:
    x = (x - x.mean()) / np.sqrt(x.var() + module.eps)
    return x * module.weight.detach().numpy() + module.bias.detach().numpy()


@pytest.mark.parametrize('normed', [False, True])
def test_weights_are_the_softmax_of_scaled_products(normed: bool) -> None:
    attention = randomized(arch=dict(qk_norm=normed)).blocks[1].attn
    x = torch.randn(1, 7, 24, generator=torch.Generator().manual_seed(1))
    weights = attention_weights(attention, x).detach()
    assert np.allclose(weights[0].numpy(), by_hand(attention, x, normed), atol=1e-5)
    assert torch.allclose(weights.sum(-1), torch.ones(1, 3, 7), atol=1e-5)
    some = attention_weights(attention, x, slice(2, 4)).detach()
    assert torch.allclose(some, weights[:, :, 2:4], atol=1e-6)


@pytest.mark.parametrize('normed', [False, True])
def test_the_weighted_values_are_what_the_block_computes(normed: bool) -> None:
    attention = randomized(arch=dict(qk_norm=normed)).blocks[1].attn
    x = torch.randn(2, 7, 24, generator=torch.Generator().manual_seed(1))
    values = F.linear(x, attention.qkv.weight[48:], attention.qkv.bias[48:])
    values = values.unflatten(-1, (3, 8)).transpose(1, 2)
    mixed = (attention_weights(attention, x) @ values).transpose(1, 2).flatten(2)
    for fused in (True, False):
        attention.fused_attn = fused
        assert torch.allclose(attention.proj(mixed), attention(x), atol=1e-4)


@pytest.mark.parametrize('block', [0, 1, 2])
def test_the_class_token_looks_at_patches_of_the_block_asked_for(block: int) -> None:
    model = randomized(arch=dict(reg_tokens=2, no_embed_class=True), out_indices=(block,))
    images = torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(1))
    found = class_attention(model, images)
    assert found.shape == (2, 3, 4, 6)
    x = model.start(images)[0]
    for number in range(block):
        x = model.blocks[number](x)
    x = model.blocks[block].norm1(x)[1:].detach()  # the second image
    expected = by_hand(model.blocks[block].attn, x, False)[:, 0]
    assert expected.shape == (3, 3 + 24)
    assert np.allclose(found[1].flatten(1).numpy(), expected[:, 3:], atol=1e-5)
    assert not model.blocks[block].attn._forward_pre_hooks


def test_rotary_positions_turn_queries_and_keys() -> None:
    """The weights explain what the block computes, which a map without angles does not."""
    arch = dict(rope={}, reg_tokens=2, mlp='swiglu', mlp_hidden=32)
    model = randomized(arch=dict(arch, num_heads=2), out_indices=(1,))
    images = torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(1))
    seen: dict[str, torch.Tensor] = {}
    attention = model.blocks[1].attn
    handle = attention.register_forward_hook(
        lambda _, inputs, out: seen.update(x=inputs[0], out=out)
    )
    found = class_attention(model, images)
    handle.remove()
    assert found.shape == (2, 2, 4, 6)
    table = model._table((4, 6), 3)
    weights = attention_weights(attention, seen['x'], table=table)
    assert torch.allclose(weights[:, :, 0, 3:], found.flatten(2), atol=1e-6)
    values = F.linear(seen['x'], attention.qkv.weight[48:], attention.qkv.bias[48:])
    values = values.unflatten(-1, (2, 12)).transpose(1, 2)
    mixed = attention.proj((weights @ values).transpose(1, 2).flatten(2))
    assert torch.allclose(mixed, seen['out'], atol=1e-4)
    unrotated = attention_weights(attention, seen['x'])
    assert (unrotated - weights).abs().max() > 0.01


def test_what_has_no_such_attention_is_refused() -> None:
    images = torch.zeros(1, 3, 32, 32)
    with pytest.raises(UserError, match='no class token'):
        class_attention(randomized(arch=dict(class_token=False)), images)
    with pytest.raises(UserError, match='block 2 has a WindowAttention'):
        class_attention(randomized(window_size=2), images)


def test_bright_is_where_the_attention_is() -> None:
    image = np.full((4, 6, 3), 100, np.uint8)
    weights = np.array([[0, 0, 0.25], [0.5, 0, 0]], np.float32)
    shown = attention_over(image, weights).astype(int).sum(-1)
    light = shown[::2, ::2]
    assert (shown == light.repeat(2, 0).repeat(2, 1)).all()  # a block of pixels a patch
    assert light[1, 0] > light[0, 2] > light[0, 0] == light[1, 2]
