"""Tiny models that the original libraries build and save, read back, features compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from moca.backbone import PlainViT
from moca.checkpoints import inspect_checkpoint, load_checkpoint
from moca.errors import CheckpointMismatch, UserError

SIZES = ((32, 32), (48, 48), (24, 56))
TINY: dict[str, Any] = dict(
    hidden_size=32,
    num_hidden_layers=3,
    num_attention_heads=2,
    intermediate_size=64,
    image_size=32,
    patch_size=8,
)
VISION = dict(TINY, projection_dim=16)
TEXT = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)

# transformers' class, its config, prefix tokens, how it is told to take other sizes
HUGGING_FACE = {
    'vit': (transformers.ViTModel, transformers.ViTConfig(**TINY), 1, True),
    'ijepa': (transformers.IJepaModel, transformers.IJepaConfig(**TINY), 0, True),
    'vit_mae': (
        transformers.ViTMAEForPreTraining,
        transformers.ViTMAEConfig(
            **TINY, decoder_hidden_size=16, decoder_num_hidden_layers=1,
            decoder_num_attention_heads=2, decoder_intermediate_size=16, mask_ratio=0.0,
        ),
        1,
        True,
    ),
    'dinov2': (transformers.Dinov2Model, transformers.Dinov2Config(**TINY, mlp_ratio=2), 1, False),
    'dinov2_registers': (
        transformers.Dinov2WithRegistersModel,
        transformers.Dinov2WithRegistersConfig(**TINY, mlp_ratio=2),
        5,
        False,
    ),
    'dinov2_swiglu': (
        transformers.Dinov2Model,
        transformers.Dinov2Config(**TINY, mlp_ratio=2, use_swiglu_ffn=True),
        1,
        False,
    ),
    'dinov3': (
        transformers.DINOv3ViTModel,
        transformers.DINOv3ViTConfig(**TINY, num_register_tokens=4),
        5,
        False,
    ),
    'dinov3_swiglu': (
        transformers.DINOv3ViTModel,
        transformers.DINOv3ViTConfig(
            **TINY, num_register_tokens=4, use_gated_mlp=True, hidden_act='silu', query_bias=False,
            value_bias=False,
        ),
        5,
        False,
    ),
    'siglip': (
        transformers.SiglipVisionModel,
        transformers.SiglipVisionConfig(**TINY),
        0,
        True,
    ),
    'clip': (transformers.CLIPVisionModel, transformers.CLIPVisionConfig(**TINY), 1, True),
}  # fmt: skip


def shake(model: torch.nn.Module) -> None:
    """Draw every weight, so that no zero hides a mistake."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise * (0.3 if parameter.ndim < 2 else 0.1))


def images(size: tuple[int, int]) -> Tensor:
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(sum(size)))


def close(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    error = (ours - theirs).abs().max() / theirs.abs().max()
    assert error < 1e-5, error.item()


def ours(path: Path) -> PlainViT:
    """The backbone that the file itself describes, and nobody else."""
    info = inspect_checkpoint(path)
    arch = info.arch
    assert isinstance(arch, dict), info
    model = PlainViT(arch, img_size=32)
    load_checkpoint(model, path)
    return model.eval()


@pytest.mark.parametrize('name', HUGGING_FACE)
def test_transformers(name: str, tmp_path: Path) -> None:
    cls, config, prefix, asked = HUGGING_FACE[name]
    torch.manual_seed(0)
    theirs = cls(config).eval()
    shake(theirs)
    theirs.save_pretrained(tmp_path)
    encoder = theirs.vit if name == 'vit_mae' else theirs
    backbone = ours(tmp_path)  # the folder, as save_pretrained writes it
    for size in SIZES:
        x = images(size)
        options: dict[str, Any] = {'interpolate_pos_encoding': True} if asked else {}
        if name == 'vit_mae':  # tokens in the images' order
            options['noise'] = (
                torch.arange(x.shape[2] * x.shape[3] // 64)[None].expand(2, -1).float()
            )
        with torch.no_grad():
            tokens = encoder(pixel_values=x, **options).last_hidden_state
            if name == 'clip':  # which is not normalized there
                tokens = getattr(theirs, 'vision_model', theirs).post_layernorm(tokens)
            found = backbone.tokens(x)
        close(found.patches, tokens[:, prefix:])
        if prefix:
            close(found.prefix, tokens[:, :prefix])


# timm's name, arguments that make it tiny, prefix tokens
SMALL: dict[str, Any] = dict(embed_dim=32, depth=3, num_heads=2, patch_size=8, img_size=32)
TIMM = {
    'vit_base_patch16_224': {},
    'vit_small_patch16_dinov3': dict(dynamic_img_size=True),
    'vit_small_patch16_dinov3_qkvb': dict(dynamic_img_size=True),
    'vit_small_plus_patch16_dinov3': dict(dynamic_img_size=True),
    'aimv2_large_patch14_224': dict(dynamic_img_size=True),
    'eva02_base_patch14_224': dict(dynamic_img_size=True),
    'vit_pe_spatial_small_patch16_512': dict(dynamic_img_size=True),
    'vit_base_patch16_siglip_gap_224': dict(dynamic_img_size=True),
    'vit_tiny_patch16_dinov3_qkvb': dict(dynamic_img_size=True),  # EUPE's
    'vit_giant_patch16_lingbot': dict(dynamic_img_size=True),
    'vit_small_patch14_reg4_dinov2': dict(dynamic_img_size=True),
    'vit_base_patch14_reg1_tipsv2': dict(dynamic_img_size=True),
    'vit_base_patch16_radio_v3': dict(dynamic_img_size=True),
}


@pytest.mark.parametrize('name', TIMM)
def test_timm(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs: Any = timm.create_model(
        name, num_classes=0, **{'dynamic_img_size': True, **SMALL, **TIMM[name]}
    ).eval()
    shake(theirs)
    save_file(theirs.state_dict(), tmp_path / 'model.safetensors')
    config = dict(
        architecture=name,
        model_args=dict(num_heads=2),
        pretrained_cfg={key: theirs.pretrained_cfg[key] for key in ('mean', 'std')},
    )
    (tmp_path / 'config.json').write_text(json.dumps(config))
    backbone = ours(tmp_path / 'model.safetensors')
    info = inspect_checkpoint(tmp_path)
    assert info.mean == pytest.approx(theirs.pretrained_cfg['mean'])
    for size in SIZES:
        x = images(size)
        with torch.no_grad():
            tokens = theirs.forward_features(x)
            if name.startswith('eva02'):  # applied to their mean there
                tokens = theirs.fc_norm(tokens)
            found = backbone.tokens(x)
        close(torch.cat([found.prefix, found.patches], dim=1), tokens)


def dinov3(tmp_path: Path) -> tuple[Path, dict[str, Tensor]]:
    """A DINOv3 of transformers, and its tensors."""
    cls, config, _, _ = HUGGING_FACE['dinov3']
    model = cls(config)
    shake(model)
    model.save_pretrained(tmp_path)
    return tmp_path / 'model.safetensors', load_file(tmp_path / 'model.safetensors')


def test_rotation_in_windows_and_of_kept_tokens(tmp_path: Path) -> None:
    path, _ = dinov3(tmp_path)
    arch = inspect_checkpoint(path).arch
    whole, window = PlainViT(arch), PlainViT(arch, window_size=7)
    for model in (whole, window):
        load_checkpoint(model, path)
    x = images((56, 56))  # 7 x 7 patches: one window
    whole.eval(), window.eval()
    with torch.no_grad():
        kept = torch.randperm(49, generator=torch.Generator().manual_seed(0))
        found = whole.tokens(x, kept[None].expand(2, -1))
        expected = whole.tokens(x)
        close(found.patches, expected.patches[:, kept])
        # in a window there are no class and register tokens, so that both are held to one without
        bare = dict(arch, reg_tokens=0, class_token=False)
        plain = PlainViT(bare).eval()
        missing = plain.load_state_dict(whole.state_dict(), strict=False)
        assert not missing.missing_keys
        close(window(x)[0], plain(x)[0])


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ('drop layer.1.attention.q_proj.weight', 'attn'),
        ('rename layer.2.norm1.weight', 'not in the file'),
        ('add embeddings.strange_tokens', 'stands beside the blocks and is not understood'),
        ('add layer.0.attention.strange.weight', 'In the file but not in the backbone'),
        ('drop embeddings.register_tokens', 'num_register_tokens=4, the tensors 0'),
    ],
)
def test_nothing_loads_in_part(change: str, message: str, tmp_path: Path) -> None:
    path, state = dinov3(tmp_path)
    arch = inspect_checkpoint(path).arch
    how, _, key = change.partition(' ')
    if how == 'add':
        state[key] = torch.zeros(1, 2, 32)
    else:
        value = state.pop(key)
        if how == 'rename':
            state[key.replace('norm1', 'nrom1')] = value
    save_file(state, path)
    model = PlainViT(arch)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises((CheckpointMismatch, UserError), match=message):
        load_checkpoint(model, path)
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_rotary_weights_do_not_load_into_a_vit_without(tmp_path: Path) -> None:
    path, _ = dinov3(tmp_path)
    arch = dict(inspect_checkpoint(path).arch)
    del arch['rope']
    with pytest.raises(CheckpointMismatch, match=r'rope\.periods'):
        load_checkpoint(PlainViT(arch), path)
