"""C-RADIO, TIPSv2, AIMv2, SigLIP 2 and EVA-02 by the names of their publishers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
import transformers
from timm.models.eva import checkpoint_filter_fn as eva_filter
from timm.models.vision_transformer import _convert_aimv2, _convert_radio
from torch import Tensor

from moca.backbone import PlainViT
from moca.checkpoints import inspect_checkpoint, load_checkpoint
from tests.backbone.helpers import save
from tests.checkpoints.test_original_libraries import SIZES, SMALL, TINY, close, images, shake

LAYERS = dict(TINY, mlp_ratio=2.0)
del LAYERS['intermediate_size']
RADIO = dict(LAYERS, max_img_size=64, num_cls_tokens=2, num_registers=3)
# class, its config, prefix tokens, mean
TRANSFORMERS: dict[str, Any] = {
    'radio': (transformers.RadioModel, transformers.RadioConfig(**RADIO), 5, 0.48145466),
    'radio_swiglu': (
        transformers.RadioModel,
        transformers.RadioConfig(**RADIO, use_swiglu_ffn=True),
        5,
        0.48145466,
    ),
    'tipsv2': (transformers.Tipsv2VisionModel, transformers.Tipsv2VisionConfig(**LAYERS), 2, 0.0),
}


def ours(path: Path) -> PlainViT:
    """The backbone that the file itself describes, for the grid of its positions."""
    arch = inspect_checkpoint(path).arch
    assert isinstance(arch, dict)
    model = PlainViT(arch)
    load_checkpoint(model, path)
    return model.eval()


@torch.no_grad()
@pytest.mark.parametrize('name', TRANSFORMERS)
def test_transformers(name: str, tmp_path: Path) -> None:
    cls, config, prefix, mean = TRANSFORMERS[name]
    torch.manual_seed(0)
    theirs = cls(config).eval()
    shake(theirs)
    theirs.save_pretrained(tmp_path)
    assert inspect_checkpoint(tmp_path).mean[0] == pytest.approx(mean)
    backbone = ours(tmp_path)
    if name.startswith('radio'):
        theirs.input_conditioner = torch.nn.Identity()  # images are normalized already
    for size in SIZES:
        x = images(size)
        found = backbone.tokens(x)
        expected = theirs(pixel_values=x)
        close(found.prefix, expected.last_hidden_state[:, :prefix])
        close(found.patches, expected.last_hidden_state[:, prefix:])


@torch.no_grad()
def test_aimv2_of_transformers(tmp_path: Path) -> None:
    theirs = transformers.Aimv2VisionModel(transformers.Aimv2VisionConfig(**TINY)).eval()
    shake(theirs)
    theirs.save_pretrained(tmp_path)
    x = images((32, 32))  # the only size there
    close(ours(tmp_path).tokens(x).patches, theirs(pixel_values=x).last_hidden_state)


@torch.no_grad()
def test_siglip2_of_images_of_any_shape(tmp_path: Path) -> None:
    config = transformers.Siglip2VisionConfig(**{**TINY, 'num_patches': 16})
    theirs = transformers.Siglip2VisionModel(config).eval()
    shake(theirs)
    theirs.save_pretrained(tmp_path)
    backbone = ours(tmp_path)
    for size in SIZES:
        x = images(size)
        rows, columns = size[0] // 8, size[1] // 8
        patches = x.unflatten(3, (columns, 8)).unflatten(2, (rows, 8)).permute(0, 2, 4, 3, 5, 1)
        expected = theirs(
            pixel_values=patches.reshape(2, rows * columns, -1),
            pixel_attention_mask=torch.ones(2, rows * columns, dtype=torch.int64),
            spatial_shapes=torch.tensor([[rows, columns]] * 2),
        )
        close(backbone.tokens(x).patches, expected.last_hidden_state)


def timms(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=0, dynamic_img_size=True, **{**SMALL, **options})
    shake(model)
    return model.eval()


def features(path: Path, model: Any) -> None:
    """Ours of a file against timm's of the same weights; other sizes are resampled otherwise."""
    backbone, x = ours(path), images((32, 32))
    with torch.no_grad():
        found = backbone.tokens(x)
        expected = model.forward_features(x)
        expected = model.fc_norm(expected) if hasattr(model, 'fc_norm') else expected
    close(torch.cat([found.prefix, found.patches], dim=1), expected)


def test_aimv2_of_its_authors(tmp_path: Path) -> None:
    model = timms('aimv2_large_patch14_224', embed_dim=256)
    published = {}
    for key, value in model.state_dict().items():
        key = key.replace('norm1', 'norm_1').replace('norm2', 'norm_2')
        key = key.replace('fc1_g', 'fc1').replace('fc1_x', 'fc3')
        key = key.replace('patch_embed.', 'preprocessor.patchifier.')
        key = key.replace('pos_embed', 'preprocessor.pos_embed')
        key = f'trunk.{key}' if key.startswith('blocks.') else key
        published['trunk.post_trunk_norm.weight' if key == 'norm.weight' else key] = value
    assert _convert_aimv2(dict(published), model).keys() == model.state_dict().keys()
    path = save(published, tmp_path / 'aimv2.pth')
    assert inspect_checkpoint(path).family == 'AIMv2'
    features(path, model)


def test_eva02_of_its_authors(tmp_path: Path) -> None:
    model = timms('eva02_base_patch14_224', embed_dim=64, num_heads=1)
    published = {'rope.freqs_cos': torch.ones(16, 64), 'head.weight': torch.ones(5, 64)}
    for key, value in model.state_dict().items():
        key = key.replace('attn.norm', 'attn.inner_attn_ln').replace('mlp.norm', 'mlp.ffn_ln')
        key = key.replace('fc1_g', 'w1').replace('fc1_x', 'w2').replace('mlp.fc2', 'mlp.w3')
        key = key.replace('q_proj.bias', 'q_bias').replace('v_proj.bias', 'v_bias')
        published[key] = value
        published['blocks.0.attn.rope.freqs_sin'] = torch.ones(16, 64)
    theirs = eva_filter(dict(published), model)
    assert {key for key in theirs if key != 'head.weight'} == model.state_dict().keys()
    path = save({'module': published}, tmp_path / 'eva02.pt')
    info = inspect_checkpoint(path)
    assert (info.family, info.norm_eps) == ('EVA-02', 1e-6)
    assert 'rope.freqs_cos' in info.ignored
    features(path, model)


@torch.no_grad()
@pytest.mark.parametrize(('version', 'aligned'), [('c-radio_v3-b', True), ('c-radio_v4-h', False)])
def test_radio_of_its_authors(version: str, aligned: bool, tmp_path: Path) -> None:
    model = timms('vit_base_patch16_radio_v3', embed_dim=64, num_heads=1, img_size=32)
    state, start = model.state_dict(), 'radio_model.model.'
    grid = torch.randn(1, 64, 64, generator=torch.Generator().manual_seed(0))
    kernel = state['patch_embed.proj.weight'].flatten(1)
    published: dict[str, Tensor] = {
        f'{start}patch_generator.embedder.weight': kernel,
        f'{start}patch_generator.pos_embed': grid,
        f'{start}patch_generator.cls_token.token': torch.cat(
            [state['cls_token'][0], state['reg_token'][0]]
        ),
        'radio_model.input_conditioner.norm_mean': torch.zeros(3, 1, 1),
        **{
            f'{start}{key.replace(".gamma", ".grandma")}': value
            for key, value in state.items()
            if key.startswith('blocks.')
        },
    }
    converted = _convert_radio(published)
    assert converted.keys() == state.keys()
    (tmp_path / 'config.json').write_text(json.dumps({'version': version}))
    path = save(published, tmp_path / 'model.pth')
    backbone = ours(path)
    assert inspect_checkpoint(path).mean[0] == pytest.approx(0.48145466)
    for size in SIZES:
        rows, columns = size[0] // 8, size[1] // 8
        side = max(rows, columns)
        square = F.interpolate(
            grid.reshape(1, 8, 8, 64).permute(0, 3, 1, 2),
            (side, side),
            mode='bilinear',
            align_corners=aligned,
        )
        other = timms('vit_base_patch16_radio_v3', embed_dim=64, num_heads=1, img_size=size)
        positions = square[:, :, :rows, :columns].flatten(2).transpose(1, 2)
        other.load_state_dict({**converted, 'pos_embed': positions})
        found, x = backbone.tokens(images(size)), images(size)
        close(torch.cat([found.prefix, found.patches], 1), other.forward_features(x))
