"""Damage that torch and safetensors would load: changed bits, packed members, repeated numbers."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from moca.backbone import PlainViT
from moca.checkpoints import inspect_checkpoint, load_checkpoint
from moca.checkpoints.reading import read_file
from moca.errors import UserError
from moca.pretrain.moca.export import export
from tests.backbone.helpers import TINY, save, timm_vit


def flip(path: Path, place: int, bit: int = 3) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(data)


def place_of(path: Path, values: torch.Tensor) -> int:
    """Where the bytes of a tensor stand in a file."""
    return path.read_bytes().index(values.numpy().tobytes()) + 40


def rewrite(path: Path, target: Path, compression: int, double: str = '') -> Path:
    """The same members in another zip archive."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, 'w', compression) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
            if double and name.endswith(double):
                with pytest.warns(UserWarning, match='Duplicate name'):
                    new.writestr(name, bytes(len(old.read(name))))
    return target


def test_changed_bit_of_a_torch_file(tmp_path: Path) -> None:
    state = timm_vit(TINY).state_dict()
    path = save(state, tmp_path / 'a.pth')
    flip(path, place_of(path, state['blocks.1.mlp.fc1.weight']))
    changed = torch.load(path, weights_only=True)  # torch itself says nothing
    assert not torch.equal(changed['blocks.1.mlp.fc1.weight'], state['blocks.1.mlp.fc1.weight'])
    with pytest.raises(UserError, match=r'a\.pth: the checksum of \S+/data/\d+ is wrong'):
        inspect_checkpoint(path)
    with pytest.raises(UserError, match='checksum'):
        load_checkpoint(PlainViT(TINY), path)


def test_changed_bit_of_an_exported_file(tmp_path: Path) -> None:
    state = timm_vit(TINY).state_dict()
    path = tmp_path / 'a.safetensors'
    source = save(state, tmp_path / 'a.pth')
    export(source, source, path)
    inspect_checkpoint(path)
    flip(path, place_of(path, state['blocks.1.mlp.fc1.weight']))
    with pytest.raises(UserError, match=r'a\.safetensors: its tensors are not those'):
        inspect_checkpoint(path)


def swap(path: Path, state: dict[str, torch.Tensor]) -> None:
    """Two tensors of one shape, each where the other was."""
    data = path.read_bytes()
    one, two = (state[f'blocks.{k}.mlp.fc1.weight'].numpy().tobytes() for k in range(2))
    parts = [part.replace(two, one) for part in data.split(one)]
    path.write_bytes(two.join(parts))


@pytest.mark.parametrize('name', ['a.pth', 'a.safetensors'])
def test_swapped_tensors(name: str, tmp_path: Path) -> None:
    state = timm_vit(TINY).state_dict()
    path = save(state, tmp_path / 'from.pth')
    export(path, path, tmp_path / name, to=None if name.endswith('rs') else 'timm')
    swap(tmp_path / name, state)
    with pytest.raises(UserError, match=r'checksum|not those that were written'):
        inspect_checkpoint(tmp_path / name)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda a, b: rewrite(a, b, zipfile.ZIP_DEFLATED), r'b\.pth.*is compressed'),
        (
            lambda a, b: rewrite(a, b, zipfile.ZIP_STORED, 'data/0'),
            r'data/0 is in it twice',
        ),
    ],
)
def test_archives_that_torch_does_not_write(
    change: Callable[[Path, Path], Path], message: str, tmp_path: Path
) -> None:
    path = save(timm_vit(TINY).state_dict(), tmp_path / 'a.pth')
    with pytest.raises(UserError, match=message):
        read_file(change(path, tmp_path / 'b.pth'))
    read_file(rewrite(path, tmp_path / 'c.pth', zipfile.ZIP_STORED))  # the fault is what was added


def test_a_number_repeated_over_any_shape(tmp_path: Path) -> None:
    state = timm_vit(TINY).state_dict()
    state['head.weight'] = torch.ones(1, 1).expand(10**6, 10**5)
    path = save({'model': state}, tmp_path / 'a.pth')
    assert path.stat().st_size < 10**6
    with pytest.raises(UserError, match=r'model\.head\.weight \[1000000, .*would take 400,0'):
        inspect_checkpoint(path)


def test_files_of_before_zip_archives_are_read(tmp_path: Path) -> None:
    state = timm_vit(TINY).state_dict()
    torch.save(state, tmp_path / 'old.pth', _use_new_zipfile_serialization=False)
    assert read_file(tmp_path / 'old.pth').keys() == state.keys()


def test_one_tensor_under_two_names(tmp_path: Path) -> None:
    state = timm_vit(TINY).state_dict()
    state['module.cls_token'] = state['cls_token'].clone()
    inspect_checkpoint(save(state, tmp_path / 'a.pth'))
    state['module.cls_token'] += 1
    with pytest.raises(UserError, match=r'b\.pth: cls_token and module\.cls_token are one tensor'):
        inspect_checkpoint(save(state, tmp_path / 'b.pth'))


def test_sparse_tensor(tmp_path: Path) -> None:
    state = timm_vit(TINY).state_dict()
    state['norm.bias'] = state['norm.bias'].to_sparse()
    with pytest.raises(UserError, match=r'a\.pth: model\.norm\.bias is no dense tensor'):
        inspect_checkpoint(save({'model': state}, tmp_path / 'a.pth'))


def test_key_whose_block_has_no_number(tmp_path: Path) -> None:
    state = timm_vit(TINY).state_dict()
    state['blocks.1&attn.qkv.bias'] = state.pop('blocks.1.attn.qkv.bias')
    path = save(state, tmp_path / 'a.pth')
    with pytest.raises(UserError, match=r'a\.pth.*blocks\.1\.attn\.qkv\.bias'):
        load_checkpoint(PlainViT(TINY), path)


def test_shard_outside_its_folder(tmp_path: Path) -> None:
    index = tmp_path / 'model.safetensors.index.json'
    index.write_text(json.dumps({'weight_map': {'patch_embed.proj.weight': '../a.safetensors'}}))
    with pytest.raises(UserError, match=r'index\.json: names \.\./a\.safetensors, which'):
        read_file(index)


@pytest.mark.parametrize(
    ('key', 'change'),
    [
        ('pos_embed', lambda value: value.flatten()),
        ('pos_embed', lambda value: value[:, :0]),
        ('cls_token', lambda value: value[0, 0]),
        ('patch_embed.proj.weight', lambda value: value[:0]),
        ('blocks.0.mlp.fc1.weight', lambda value: value[:0]),
    ],
)
def test_shapes_that_tell_no_architecture(key: str, change: Any, tmp_path: Path) -> None:
    state = timm_vit(TINY).state_dict()
    state[key] = change(state[key])
    with pytest.raises(UserError, match=rf'a\.pth: {re.escape(key)} (is )?\['):
        inspect_checkpoint(save(state, tmp_path / 'a.pth'))
