"""A ViT is found under any prefix and wrapper, several are listed, and other networks are named."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from moca.backbone import PlainViT
from moca.checkpoints import inspect_checkpoint, load_checkpoint
from moca.errors import UserError
from tests.backbone.helpers import TINY, assert_same_model, save, timm_vit


def tiny(seed: int = 1) -> tuple[Any, dict[str, Tensor]]:
    model = timm_vit(TINY, seed=seed)
    return model, dict(model.state_dict())


def under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f'{prefix}{key}': value for key, value in state.items()}


@pytest.mark.parametrize(
    ('entry', 'prefix'),
    [
        (None, 'backbone.'),
        (None, 'image_encoder.'),
        ('state_dict', 'model.'),
        ('model', 'backbone.net.'),
        ('state_dict', 'module.visual.trunk.'),
        ('state_dict', 'teacher_embedding_model.wrapped_model._model.'),
        ('model', '_fsdp_wrapped_module.'),
        ('model', 'encoder.'),
        ('state_dict', 'module._orig_mod.'),
    ],
)
def test_one_vit_is_taken_wherever_it_is(entry: str | None, prefix: str, tmp_path: Path) -> None:
    reference, state = tiny()
    content = {**under(prefix, state), f'{prefix or ""}decode_head.conv.weight': torch.ones(2, 3)}
    path = save({entry: content, 'epoch': 3} if entry else content, tmp_path / 'a.pth')
    info = inspect_checkpoint(path)
    assert 'MOCA' not in info.family
    assert any('decode_head' in key for key in info.ignored)  # what is left out is said
    model = PlainViT(TINY)
    load_checkpoint(model, path)
    assert_same_model(model, reference)


def test_wrappers_inside_of_keys(tmp_path: Path) -> None:
    reference, state = tiny()
    wrapped = {
        key.replace('blocks.1.', 'blocks.1._checkpoint_wrapped_module.'): value
        for key, value in state.items()
    }
    model = PlainViT(TINY)
    load_checkpoint(model, save({'model': wrapped}, tmp_path / 'a.pth'))
    assert_same_model(model, reference)


def test_several_are_listed_and_one_is_chosen(tmp_path: Path) -> None:
    (_, first), (reference, second) = tiny(1), tiny(2)
    content = {'state_dict': {**under('left.vit.', first), **under('right.vit.', second)}}
    path = save(content, tmp_path / 'a.pth')
    with pytest.raises(
        UserError, match=r'2 ViTs.*state_dict\.left\.vit.*state_dict\.right.*--prefix'
    ):
        inspect_checkpoint(path)
    with pytest.raises(UserError, match=r'--prefix middle: no single encoder'):
        inspect_checkpoint(path, prefix='middle')
    for prefix in ('right.vit', 'state_dict.right.vit', 'right.vit.'):
        model = PlainViT(TINY)
        load_checkpoint(model, path, prefix=prefix)
        assert_same_model(model, reference)


@pytest.mark.parametrize(
    ('entries', 'default', 'other'),
    [(('model_ema', 'model'), 'ema', 'raw'), (('state_dict_ema', 'state_dict'), 'ema', 'raw')],
)
def test_averaged_weights_beside_the_raw_ones(
    entries: tuple[str, str], default: str, other: str, tmp_path: Path
) -> None:
    (averaged, first), (raw, second) = tiny(1), tiny(2)
    path = save({entries[0]: first, entries[1]: second}, tmp_path / 'a.pth')
    info = inspect_checkpoint(path)
    assert (info.branch, info.branches) == (default, (default, other))
    for branch, reference in ((None, averaged), (other, raw)):
        model = PlainViT(TINY)
        load_checkpoint(model, path, branch)
        assert_same_model(model, reference)


def test_solo_learn(tmp_path: Path) -> None:
    (student, first), (teacher, second) = tiny(1), tiny(2)
    content = {'state_dict': {**under('backbone.', first), **under('momentum_backbone.', second)}}
    path = save(content, tmp_path / 'last.ckpt')
    assert inspect_checkpoint(path).family == 'solo-learn'
    for branch, reference in ((None, student), ('teacher', teacher)):
        model = PlainViT(TINY)
        load_checkpoint(model, path, branch)
        assert_same_model(model, reference)


PATCH = {'patch_embed.proj.weight': torch.zeros(8, 3, 4, 4), 'blocks.0.norm1.weight': torch.ones(8)}


@pytest.mark.parametrize(
    ('more', 'message'),
    [
        ({'blocks.0.attn.relative_position_bias_table': torch.zeros(9, 2)}, 'BEiT'),
        ({'dist_token': torch.zeros(1, 1, 8)}, 'distilled DeiT'),
        ({'blocks.0.attn.qkv.lora_A.weight': torch.zeros(2, 8)}, 'LoRA'),
        ({'strange_tokens': torch.zeros(1, 2, 8)}, r'strange_tokens .*not understood'),
        ({'blocks.0.mlp.fc1.qweight': torch.zeros(8, 8)}, 'quantized'),
        ({'cls_norm.weight': torch.zeros(8)}, 'norm of its own for the class token'),
    ],
)
def test_a_vit_that_is_not_plain_is_shown_and_not_loaded(
    more: dict[str, Tensor], message: str, tmp_path: Path
) -> None:
    path = save({**tiny()[1], **_widened(more)}, tmp_path / 'a.pth')
    info = inspect_checkpoint(path)
    assert info.refusal is not None
    assert info.fitting == ()
    with pytest.raises(UserError, match=message):
        load_checkpoint(PlainViT(TINY), path)


def _widened(more: dict[str, Tensor]) -> dict[str, Tensor]:
    """As wide as the tiny ViT."""
    return {
        key: torch.zeros([32 if side == 8 else side for side in value.shape])
        for key, value in more.items()
    }


@pytest.mark.parametrize(
    ('state', 'message'),
    [
        ({'layers.0.blocks.0.attn.relative_position_index': torch.zeros(4, 4)}, 'Swin'),
        ({'stages.0.blocks.0.conv_dw.weight': torch.zeros(8, 1, 7, 7)}, 'ConvNeXt'),
        ({'token_embedding.weight': torch.zeros(9, 8)}, 'text tower alone'),
        ({'layer1.0.conv1.weight': torch.zeros(8, 8, 3, 3)}, 'no plain ViT in it'),
        ({'base.lora_A.weight': torch.zeros(2, 8)}, 'LoRA'),
    ],
)
def test_other_networks_are_named(state: dict[str, Tensor], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        inspect_checkpoint(save(state, tmp_path / 'a.pth'))


def test_videos(tmp_path: Path) -> None:
    state = tiny()[1]
    state['patch_embed.proj.weight'] = torch.zeros(32, 3, 2, 8, 8)
    with pytest.raises(UserError, match='videos or volumes'):
        inspect_checkpoint(save(state, tmp_path / 'a.pth'))


def test_a_mask_that_was_never_initialized(tmp_path: Path) -> None:
    state = tiny()[1]
    for block in range(3):
        state[f'blocks.{block}.attn.qkv.bias_mask'] = torch.full((96,), float('nan'))
    with pytest.raises(UserError, match=r'a\.pth: blocks\.0\.attn\.qkv\.bias_mask is not a number'):
        inspect_checkpoint(save(state, tmp_path / 'a.pth'))


def test_shards(tmp_path: Path) -> None:
    reference, state = tiny()
    names = [f'model-0000{i}-of-00002.safetensors' for i in (1, 2)]
    keys = sorted(state)
    for name, part in zip(names, (keys[::2], keys[1::2]), strict=True):
        save_file({key: state[key].clone() for key in part}, tmp_path / name)
    places = {key: names[i % 2] for i, key in enumerate(keys)}
    index = tmp_path / 'model.safetensors.index.json'
    index.write_text(json.dumps({'metadata': {}, 'weight_map': places}))
    for path in (index, tmp_path):
        model = PlainViT(TINY)
        load_checkpoint(model, path)
        assert_same_model(model, reference)
    shard = tmp_path / names[1]
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(UserError, match=f'{names[1]}: a broken shard'):
        inspect_checkpoint(index)
    shard.unlink()
    with pytest.raises(
        UserError, match=rf'1 of 2 shards are missing beside it, such as {names[1]}'
    ):
        inspect_checkpoint(index)
    index.write_text('[]')
    with pytest.raises(UserError, match='no index of shards'):
        inspect_checkpoint(index)


def test_files_of_other_kinds_are_named(tmp_path: Path) -> None:
    model, state = tiny()
    torch.jit.save(torch.jit.trace(model, torch.zeros(1, 3, 32, 32)), tmp_path / 'script.pt')
    np.savez(tmp_path / 'jax.npz', kernel=np.zeros((8, 8)))
    arrays = {key: value.numpy() for key, value in state.items()}
    (tmp_path / 'model_final.pkl').write_bytes(pickle.dumps({'model': arrays}))
    torch.save(model, tmp_path / 'module.pth')
    (tmp_path / 'a.json').write_text('{}')
    for name, trust, message in (
        ('script.pt', False, 'TorchScript'),
        ('jax.npz', False, r'\.npz'),
        ('model_final.pkl', False, 'detectron2'),
        ('model_final.pkl', True, 'detectron2'),
        ('module.pth', True, 'a whole VisionTransformer'),
        ('a.json', False, 'a JSON file'),
    ):
        with pytest.raises(UserError, match=f'{name}: .*{message}'):
            inspect_checkpoint(tmp_path / name, trust=trust)


def test_the_content_tells_the_kind_and_not_the_name(tmp_path: Path) -> None:
    reference, state = tiny()
    save_file(state, tmp_path / 'a.pth')
    torch.save(state, tmp_path / 'b.safetensors')
    for name, said in (('a.pth', 'a safetensors file'), ('b.safetensors', 'a file of torch')):
        assert said in str(inspect_checkpoint(tmp_path / name))
        model = PlainViT(TINY)
        load_checkpoint(model, tmp_path / name)
        assert_same_model(model, reference)


def test_a_config_that_is_no_json(tmp_path: Path) -> None:
    save_file(tiny()[1], tmp_path / 'model.safetensors')
    (tmp_path / 'config.json').write_text('{')
    with pytest.raises(UserError, match=r'config\.json: no JSON'):
        inspect_checkpoint(tmp_path)
