"""Exported ViTs with rotary positions: timm's own Eva must read them and compute the same."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from moca.backbone import PlainViT
from moca.checkpoints.encoder import Encoder
from moca.checkpoints.export import write_encoder
from moca.errors import UserError
from tests.backbone.helpers import random_images, randomize

SIZES: dict[str, Any] = dict(patch_size=8, embed_dim=32, depth=3, num_heads=2)
ARCH = dict(SIZES, img_size=32, rope={}, norm_eps=1e-5, init_values=1.0, reg_tokens=4)
GATED = dict(mlp='swiglu', mlp_hidden=64)


def backbone(**changes: Any) -> PlainViT:
    model = PlainViT({**ARCH, **changes}).eval()
    randomize(model)
    for block in model.blocks:
        if block.attn.qkv.bias is not None:
            block.attn.qkv.bias.data[32:64] = 0  # timm has none for keys
    return model


def export(model: PlainViT, target: Path) -> str:
    state = {key: value.detach() for key, value in model.state_dict().items()}
    return write_encoder(Encoder('DINOv3', 'encoder', ('encoder',), state, ()), {}, target)


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
@pytest.mark.parametrize(
    ('changes', 'name', 'theirs'),
    [
        ({}, 'vit_small_patch16_dinov3_qkvb', {}),
        (dict(qkv_bias=False), 'vit_small_patch16_dinov3', {}),
        (
            dict(GATED, qkv_bias=False),
            'vit_small_plus_patch16_dinov3',
            dict(mlp_ratio=2, swiglu_align_to=None),
        ),
    ],
)
def test_timm_computes_the_same(
    changes: dict[str, Any], name: str, theirs: dict[str, Any], suffix: str, tmp_path: Path
) -> None:
    model, target = backbone(**changes), tmp_path / f'vit{suffix}'
    assert 'as an Eva' in export(model, target)
    # strict: a key too many or too few is an error
    other = timm.create_model(
        name, **SIZES, **theirs, img_size=32, num_classes=0, checkpoint_path=str(target)
    ).eval()
    images = random_images(2, 3, 32, 48)
    with torch.no_grad():
        ours, expected = model.tokens(images), other.forward_features(images)
    torch.testing.assert_close(
        torch.cat([ours.prefix, ours.patches], 1), expected, rtol=1e-4, atol=1e-5
    )


def test_a_bias_of_keys_is_refused(tmp_path: Path) -> None:
    model = backbone()
    model.blocks[1].attn.qkv.bias.data[40] = 1
    with pytest.raises(UserError, match=r'blocks\.1.*keys have a bias'):
        export(model, tmp_path / 'vit.pth')


def test_periods_that_timm_does_not_have(tmp_path: Path) -> None:
    model = backbone()
    assert 'bfloat16' not in export(model, tmp_path / 'a.pth')
    model.rope.periods.copy_(model.rope.periods.bfloat16())
    assert 'rounded to bfloat16' in export(model, tmp_path / 'b.pth')
    model.rope.periods.mul_(1.25)
    with pytest.raises(UserError, match='not those of base 100'):
        export(model, tmp_path / 'c.pth')
