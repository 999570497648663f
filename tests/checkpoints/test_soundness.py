"""Files that would load in full and be another network: refused, each with its reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from moca.backbone import PlainViT
from moca.checkpoints import inspect_checkpoint, load_checkpoint
from moca.errors import UserError
from tests.backbone.helpers import TINY, save, timm_vit
from tests.checkpoints.test_original_libraries import HUGGING_FACE

State = dict[str, Tensor]


def refused(path: Path, message: str) -> None:
    """With the architecture that the file itself says, so that nothing else finds the fault."""
    with pytest.raises(UserError, match=message):
        loaded(path)


def loaded(path: Path) -> PlainViT:
    model = PlainViT(inspect_checkpoint(path).arch or TINY)
    load_checkpoint(model, path)
    return model


def plain() -> State:
    return dict(timm_vit(TINY).state_dict())


def without(key: str) -> Callable[[State], Any]:
    return lambda state: state.pop(key)


def put(key: str, value: Any) -> Callable[[State], Any]:
    return lambda state: state.update({key: value(state[key]) if callable(value) else value})


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (without('pos_embed'), 'no positions, neither learned nor rotary'),
        (without('patch_embed.proj.bias'), r'patch_embed\.proj has no bias'),
        (put('rope_embed.freqs', torch.ones(4)), r'rope_embed\.freqs .*not understood'),
        (put('blocks.1.mlp.fc1.weight', lambda w: w.to(torch.int64)), 'of type int64'),
        (put('norm.bias', lambda w: w > 0), 'of type bool'),
        (put('blocks.0.norm1.bias', lambda w: w.to(torch.float8_e4m3fn)), 'float8'),
        (put('cls_token', lambda w: w.to(torch.complex64)), 'of type complex64'),
        (put('pos_embed', torch.zeros(1, 4, 4, 32)), r'pos_embed is \[1, 4, 4, 32\].*SAM'),
        (put('patch_embed.proj.weight', torch.zeros(32)), 'no plain ViT in it'),
        (put('patch_embed.proj.weight', torch.zeros(32, 100)), 'no kernel of square patches'),
        (put('patch_embed.proj.weight', torch.zeros(32, 3, 8, 4)), 'no kernel of square patches'),
        (put('patch_embed.proj.weight', torch.zeros(32, 1, 8, 8)), 'of RGB images'),
        (put('attn_pool.probe', torch.zeros(1, 1, 32)), "Encoder under its authors' names"),
        (put('_fsdp_wrapped_module._flat_param', torch.zeros(9)), 'one share of a network'),
        (put('blocks.0.attn.qkv.bias_mask', torch.ones(96)), '1 blocks have .*bias_mask and 3'),
        (put('cls_token', lambda w: w * float('nan')), 'cls_token holds NaN'),
    ],
)
def test_damaged_tensors(change: Callable[[State], Any], message: str, tmp_path: Path) -> None:
    state = plain()
    change(state)
    refused(save(state, tmp_path / 'a.pth'), message)


def folder(name: str, tmp_path: Path) -> tuple[Path, State, dict[str, Any]]:
    cls, config, _, _ = HUGGING_FACE[name]
    torch.manual_seed(0)
    cls(config).save_pretrained(tmp_path)
    state = load_file(tmp_path / 'model.safetensors')
    return tmp_path, state, json.loads((tmp_path / 'config.json').read_text())


@pytest.mark.parametrize(
    ('name', 'said', 'message'),
    [
        ('vit', dict(hidden_size=64), 'hidden_size=64, the tensors 32'),
        ('vit', dict(num_hidden_layers=4), 'num_hidden_layers=4, the tensors 3'),
        ('vit', dict(patch_size=16), 'patch_size=16, the tensors 8'),
        ('vit', dict(image_size=64), '64 patches; the tensors have 17 positions'),
        ('vit', dict(intermediate_size=128), 'intermediate_size=128, the tensors 64'),
        ('vit', dict(num_attention_heads=5), '5 heads, which do not divide 32'),
        ('vit', dict(qkv_bias=False), 'qkv_bias=False, the tensors True'),
        ('dinov3', dict(num_register_tokens=0), 'num_register_tokens=0, the tensors 4'),
        ('dinov3', dict(use_gated_mlp=True), 'use_gated_mlp=True, the tensors False'),
    ],
)
def test_a_config_that_contradicts_the_tensors(
    name: str, said: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path, _, config = folder(name, tmp_path)
    inspect_checkpoint(path)
    (path / 'config.json').write_text(json.dumps({**config, **said}))
    refused(path, message)


# of each kind of names a family; the architecture is told by the first block
@pytest.mark.parametrize('name', ['vit', 'dinov2_registers', 'dinov3', 'siglip', 'clip'])
def test_every_tensor_counts(name: str, tmp_path: Path) -> None:
    path, state, _ = folder(name, tmp_path)
    left = inspect_checkpoint(path).ignored
    file = path / 'model.safetensors'
    for key in [key for key in state if not key.endswith(left)]:
        if '.1.' in key or '.2.' in key:
            continue
        value = state.pop(key)
        save_file(state, file)
        refused(path, '')
        if '.0.' not in key:
            save_file({**state, f'{key}_of_others': value}, file)
            refused(path, '')
        state[key] = value


def test_timms_name_says_the_prefix_tokens(tmp_path: Path) -> None:
    state = plain()
    state['reg_token'] = torch.zeros(1, 2, 32)
    save_file(state, tmp_path / 'model.safetensors')
    config = dict(architecture='vit_base_patch16_224', model_args=dict(num_heads=2))
    (tmp_path / 'config.json').write_text(json.dumps(config))
    refused(tmp_path, 'of 1 prefix tokens; the tensors have 3')


def test_folders_of_other_kinds(tmp_path: Path) -> None:
    for file, message in (('__0_0.distcp', 'DCP'), ('adapter_config.json', 'LoRA adapter alone')):
        place = tmp_path / file.split('.')[0]
        place.mkdir()
        (place / file).touch()
        refused(place, message)


def test_msn_and_ijepa_of_their_authors(tmp_path: Path) -> None:
    first, second = timm_vit(TINY, seed=1), timm_vit(TINY, seed=2)
    entries = {'target_encoder': first, 'encoder': second}
    content = {
        name: {f'module.{key}': value for key, value in model.state_dict().items()}
        for name, model in entries.items()
    }
    path = save({**content, 'epoch': 3}, tmp_path / 'a.pth.tar')
    assert inspect_checkpoint(path).branches == ('teacher', 'student')
    for branch, reference in ((None, first), ('student', second)):
        model = PlainViT(TINY)
        load_checkpoint(model, path, branch)
        assert torch.equal(model.state_dict()['cls_token'], reference.state_dict()['cls_token'])
