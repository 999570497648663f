"""Exported folders: names and fields as transformers 5.24 writes them, and features by hand.

What its classes compute is written out here from their names; where transformers is installed, it
is asked as well.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from huggingface_hub import ModelCard
from mmengine.config import Config
from safetensors import safe_open
from safetensors.torch import load_file
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from moca.backbone import PlainViT
from moca.checkpoints.model_folder import export_folder, write_folder
from moca.checkpoints.to_transformers import as_transformers
from moca.errors import UserError
from tests.backbone.helpers import TINY, random_images, randomize, save
from tests.checkpoints import families
from tools.checkpoint import main

SWIGLU = dict(mlp='swiglu', mlp_hidden=64)
ROPE = dict(TINY, rope={}, norm_eps=1e-5, init_values=1.0, reg_tokens=4)
ARCHS: dict[str, dict[str, Any]] = {
    'vit': dict(TINY, norm_eps=1e-12),
    'dinov2': dict(TINY, init_values=1.0),
    'dinov2 gated': dict(TINY, mlp='swiglu', mlp_hidden=88),  # of 4 x 32, two thirds, by eights
    'dinov2_with_registers': dict(TINY, init_values=1.0, reg_tokens=4, no_embed_class=True),
    'dinov2_with_registers, all with positions': dict(TINY, reg_tokens=2),
    'dinov3_vit': ROPE,
    'dinov3_vit gated': dict(ROPE, **SWIGLU, qkv_bias=False),
    'dinov3_vit bare': dict(TINY, rope={}),
}

# What transformers 5.24 wrote for tiny models of random weights.
EMBEDDED = ('embeddings.cls_token', 'embeddings.position_embeddings')
PROJECTED = tuple(f'embeddings.patch_embeddings.projection.{p}' for p in ('weight', 'bias'))
OLD_ATTENTION = ('attention.query', 'attention.key', 'attention.value', 'output.dense')
SCALES = {'layer_scale1.lambda1', 'layer_scale2.lambda1'}


def both(*names: str) -> set[str]:
    return {f'{name}.{part}' for name in names for part in ('weight', 'bias')}


ATTENTION = both(*(f'attention.{name}' for name in OLD_ATTENTION))
DINOV3 = both('norm1', 'norm2', 'attention.q_proj', 'attention.v_proj', 'attention.o_proj')
DINOV3 |= {'attention.k_proj.weight'} | SCALES
KEYS: dict[str, tuple[set[str], str, set[str]]] = {
    'vit': (
        {*EMBEDDED, *PROJECTED, 'layernorm.weight', 'layernorm.bias'},
        'encoder.layer',
        ATTENTION
        | both('layernorm_before', 'layernorm_after', 'intermediate.dense', 'output.dense'),
    ),
    'dinov2': (
        {*EMBEDDED, *PROJECTED, 'embeddings.mask_token', 'layernorm.weight', 'layernorm.bias'},
        'encoder.layer',
        ATTENTION | both('norm1', 'norm2', 'mlp.fc1', 'mlp.fc2') | SCALES,
    ),
    'dinov3_vit': (
        {'embeddings.cls_token', 'embeddings.register_tokens', 'embeddings.mask_token'}
        | both('embeddings.patch_embeddings', 'norm'),
        'layer',
        DINOV3 | both('mlp.up_proj', 'mlp.down_proj'),
    ),
}
DINOV3_GATED = DINOV3 - {'attention.q_proj.bias', 'attention.v_proj.bias'}
KEYS['dinov3_vit gated'] = (
    KEYS['dinov3_vit'][0],
    'layer',
    DINOV3_GATED | both('mlp.gate_proj', 'mlp.up_proj', 'mlp.down_proj'),
)
start, layer, block = KEYS['dinov2']
KEYS['dinov2_with_registers'] = (start | {'embeddings.register_tokens'}, layer, block)
KEYS['dinov2 gated'] = (
    start,
    layer,
    block - both('mlp.fc1', 'mlp.fc2') | both('mlp.weights_in', 'mlp.weights_out'),
)


def backbone(name: str) -> PlainViT:
    model = PlainViT(ARCHS[name]).eval()
    randomize(model)
    if model.rope is not None and model.blocks[0].attn.qkv.bias is not None:
        for each in model.blocks:  # DINOv3's keys have none
            each.attn.qkv.bias.data[32:64] = 0
    return model


@pytest.mark.parametrize('name', KEYS)
def test_names_are_those_of_transformers(name: str) -> None:
    _, state = as_transformers(backbone(name))
    outside, layer, inside = KEYS[name]
    expected = outside | {f'{layer}.{i}.{key}' for i in range(3) for key in inside}
    assert set(state) == expected


def test_fields_are_those_of_transformers() -> None:
    shared = dict(
        dtype='float32',
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_channels=3,
        patch_size=8,
        image_size=32,
    )
    assert as_transformers(backbone('vit'))[0] == dict(
        shared,
        architectures=['ViTModel'],
        model_type='vit',
        layer_norm_eps=1e-12,
        hidden_act='gelu',
        intermediate_size=128,
        qkv_bias=True,
    )
    assert as_transformers(backbone('dinov2_with_registers'))[0] == dict(
        shared,
        architectures=['Dinov2WithRegistersModel'],
        model_type='dinov2_with_registers',
        layer_norm_eps=1e-6,
        hidden_act='gelu',
        mlp_ratio=4,
        num_register_tokens=4,
        qkv_bias=True,
        use_swiglu_ffn=False,
    )
    assert as_transformers(backbone('dinov3_vit gated'))[0] == dict(
        shared,
        architectures=['DINOv3ViTModel'],
        model_type='dinov3_vit',
        layer_norm_eps=1e-5,
        hidden_act='silu',
        intermediate_size=64,
        num_register_tokens=4,
        use_gated_mlp=True,
        query_bias=False,
        key_bias=False,
        value_bias=False,
        proj_bias=True,
        mlp_bias=True,
        rope_theta=100.0,
        pos_embed_rescale=None,
        pos_embed_shift=None,
        pos_embed_jitter=None,
    )


# ---------------------------------------------------------------- what their classes compute


class ByHand:
    """The last hidden state of transformers' ViTs at the trained size, from config and weights."""

    def __init__(self, config: dict[str, Any], state: dict[str, Tensor]) -> None:
        self.config, self.state = config, state
        self.rotary = config['model_type'] == 'dinov3_vit'

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.state[f'{name}.weight'], self.state.get(f'{name}.bias'))

    def norm(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self.state[f'{name}.weight'], self.state[f'{name}.bias']
        return F.layer_norm(x, x.shape[-1:], weight, bias, self.config['layer_norm_eps'])

    def __call__(self, images: Tensor) -> Tensor:
        x = self.embedded(images)
        start = 'layer' if self.rotary else 'encoder.layer'
        for index in range(self.config['num_hidden_layers']):
            x = self.block(f'{start}.{index}', x, images.shape[-1] // self.config['patch_size'])
        return self.norm('norm' if self.rotary else 'layernorm', x)

    def embedded(self, images: Tensor) -> Tensor:
        state, name = self.state, 'embeddings.patch_embeddings'
        name += '' if self.rotary else '.projection'
        patches = F.conv2d(
            images, state[f'{name}.weight'], state[f'{name}.bias'], stride=self.config['patch_size']
        )
        x = patches.flatten(2).transpose(1, 2)
        x = torch.cat([state['embeddings.cls_token'].expand(len(x), -1, -1), x], 1)
        if not self.rotary:
            x = x + state['embeddings.position_embeddings']
        if 'embeddings.register_tokens' in state:
            registers = state['embeddings.register_tokens'].expand(len(x), -1, -1)
            x = torch.cat([x[:, :1], registers, x[:, 1:]], 1)
        return x

    def block(self, name: str, x: Tensor, side: int) -> Tensor:
        old = f'{name}.layernorm_before.weight' in self.state
        first, second = ('layernorm_before', 'layernorm_after') if old else ('norm1', 'norm2')
        scales = [self.state.get(f'{name}.layer_scale{n}.lambda1', torch.ones(())) for n in (1, 2)]
        x = x + scales[0] * self.attention(name, self.norm(f'{name}.{first}', x), side)
        return x + scales[1] * self.mlp(name, self.norm(f'{name}.{second}', x))

    def attention(self, name: str, x: Tensor, side: int) -> Tensor:
        form = 'attention.{}_proj' if self.rotary else 'attention.attention.{}'
        names = ('q', 'k', 'v') if self.rotary else ('query', 'key', 'value')
        heads = self.config['num_attention_heads']
        q, k, v = (
            self.linear(f'{name}.{form.format(part)}', x).unflatten(-1, (heads, -1)).transpose(1, 2)
            for part in names
        )
        if self.rotary:
            q, k = (self.rotated(part, side) for part in (q, k))
        weights = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1)
        out = (weights @ v).transpose(1, 2).flatten(2)
        return self.linear(f'{name}.attention.{"o_proj" if self.rotary else "output.dense"}', out)

    def rotated(self, x: Tensor, side: int) -> Tensor:
        """Pairs (c, c + d / 2) turn by 2 pi times coordinate over period; rows, then columns."""
        dim = x.shape[-1]
        skip = 1 + self.config['num_register_tokens']
        out = x.clone()
        for place in range(side * side):
            for number, index in enumerate((place // side, place % side)):
                coordinate = 2 * (index + 0.5) / side - 1
                for k in range(dim // 4):
                    angle = 2 * math.pi * coordinate / self.config['rope_theta'] ** (k / (dim / 4))
                    low, token = number * (dim // 4) + k, skip + place
                    a, b = x[..., token, low], x[..., token, low + dim // 2]
                    out[..., token, low] = a * math.cos(angle) - b * math.sin(angle)
                    out[..., token, low + dim // 2] = b * math.cos(angle) + a * math.sin(angle)
        return out

    def mlp(self, name: str, x: Tensor) -> Tensor:
        if f'{name}.mlp.weights_in.weight' in self.state:
            gate, up = self.linear(f'{name}.mlp.weights_in', x).chunk(2, -1)
            return self.linear(f'{name}.mlp.weights_out', F.silu(gate) * up)
        if f'{name}.mlp.gate_proj.weight' in self.state:
            gate = F.silu(self.linear(f'{name}.mlp.gate_proj', x))
            return self.linear(
                f'{name}.mlp.down_proj', gate * self.linear(f'{name}.mlp.up_proj', x)
            )
        pairs = dict(vit=('intermediate.dense', 'output.dense'))
        pairs['dinov3_vit'] = ('mlp.up_proj', 'mlp.down_proj')
        first, last = pairs.get(self.config['model_type'], ('mlp.fc1', 'mlp.fc2'))
        return self.linear(f'{name}.{last}', F.gelu(self.linear(f'{name}.{first}', x)))


@pytest.mark.parametrize('name', ARCHS)
@torch.no_grad()
def test_features_are_the_same(name: str) -> None:
    model = backbone(name)
    images = random_images(2, 3, 32, 32)
    theirs = ByHand(*as_transformers(model))(images)
    ours = model.tokens(images)
    torch.testing.assert_close(
        theirs, torch.cat([ours.prefix, ours.patches], 1), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize('name', ARCHS)
@torch.no_grad()
def test_transformers_itself_computes_the_same(name: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip('transformers')
    model = backbone(name)
    config, state = as_transformers(model)
    weights = safetensors_bytes(state, metadata={'format': 'pt'})
    files = {'config.json': json.dumps(config).encode(), 'model.safetensors': weights}
    write_folder(tmp_path / 'vit', files)
    pooler = {'add_pooling_layer': False} if name == 'vit' else {}
    theirs, said = transformers.AutoModel.from_pretrained(
        tmp_path / 'vit', output_loading_info=True, **pooler
    )
    assert not any(said.values())  # nothing missing, unexpected or of another shape
    images = random_images(2, 3, 32, 32)
    ours = model.tokens(images)
    expected = theirs.eval()(images).last_hidden_state
    found = torch.cat([ours.prefix, ours.patches], 1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_bias_of_keys_is_kept() -> None:
    model = PlainViT(ROPE).eval()
    randomize(model)
    config, state = as_transformers(model)
    assert config['key_bias'] is True
    images = random_images(1, 3, 32, 32)
    with torch.no_grad():
        theirs, ours = ByHand(config, state)(images), model.tokens(images).patches
    torch.testing.assert_close(theirs[:, 5:], ours, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ('changes', 'options', 'what'),
    [
        ({}, dict(window_size=2), 'attention windows'),
        (dict(class_token=False), {}, 'no class token'),
        (dict(qk_norm=True), {}, r'attn\.q_norm\.weight'),
        (dict(pre_norm=True), {}, r'norm_pre\.weight'),
        (dict(norm='rms'), {}, 'norms that are RmsNorms'),
        (dict(pos_embed='none'), {}, 'no position embedding'),
        (dict(mlp='swiglu', mlp_hidden=60), {}, 'a hidden width of 60'),
        ({}, dict(img_size=(32, 48)), 'grid of 4 x 6'),
        (dict(rope={}, pos_embed='learn'), {}, 'pos_embed'),
    ],
)
def test_what_transformers_cannot_say_is_refused(
    changes: dict[str, Any], options: dict[str, Any], what: str
) -> None:
    model = PlainViT({**TINY, **changes}, **options)
    with pytest.raises(UserError, match=f'--to transformers: .*{what}') as error:
        as_transformers(model)
    assert '\n' not in str(error.value)


# ---------------------------------------------------------------- the folder


def run_file(path: Path, **backbone_settings: Any) -> tuple[Path, PlainViT]:
    """A run's checkpoint that has a teacher and a student, and the teacher."""
    teacher, student = PlainViT(TINY).eval(), PlainViT(TINY)
    randomize(teacher, 1)
    randomize(student, 2)
    settings = dict(type='PlainViT', arch=TINY, **backbone_settings)
    cfg = Config(
        dict(
            model=dict(type='MOCAPretrain', backbone=settings),
            train_dataloader=dict(dataset=dict(data_root='/a/b/imagenet/train')),
        )
    )
    content = families.own_run(teacher, student)  # type: ignore[arg-type]
    meta = dict(cfg=cfg.pretty_text, epoch=3, iter=1200)
    return save({**content, 'meta': meta}, path), teacher


def test_the_tool_writes_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, teacher = run_file(tmp_path / 'epoch_3.pth')
    target = tmp_path / 'new' / 'model'
    main(['export', str(source), '--to', 'transformers', str(target)])
    assert 'ViTModel' in capsys.readouterr().out
    files = {'config.json', 'model.safetensors', 'preprocessor_config.json', 'README.md'}
    assert {path.name for path in target.iterdir()} == files
    assert [path.name for path in target.parent.iterdir()] == ['model']  # nothing half written
    with safe_open(target / 'model.safetensors', framework='pt') as file:
        said = file.metadata()
        assert said['format'] == 'pt'  # transformers refuses files without it
        assert said.keys() == {'format', 'tensors_sha256'}
    config = json.loads((target / 'config.json').read_text())
    images = random_images(1, 3, 32, 32)
    with torch.no_grad():
        theirs = ByHand(config, load_file(target / 'model.safetensors'))(images)
        ours = teacher.tokens(images).patches
    torch.testing.assert_close(theirs[:, 1:], ours, rtol=1e-4, atol=1e-5)
    fed = json.loads((target / 'preprocessor_config.json').read_text())
    assert (fed['image_mean'], fed['image_std']) == ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert fed['size'] == {'height': 32, 'width': 32}
    card = (target / 'README.md').read_text()
    assert card.startswith('---\nlibrary_name: transformers\n')
    for said in ('MOCAPretrain', 'imagenet/train', '3 epochs, 1200 steps', 'teacher', '0.485'):
        assert said in card
    assert '/a/b' not in card
    assert str(tmp_path) not in card


def test_the_card_is_one_that_the_hub_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, _ = run_file(tmp_path / 'a | <b>.pth')
    export = ['export', str(tmp_path), '--to', 'transformers', '--license', 'apache-2.0']
    source.rename(tmp_path / 'epoch_3.pth')  # of a folder, as of the file
    main([*export, str(tmp_path / 'model')])
    assert 'license' not in capsys.readouterr().out
    content = (tmp_path / 'model' / 'README.md').read_text()
    card = ModelCard(content)
    assert (card.data.license, card.data.library_name) == ('apache-2.0', 'transformers')
    assert 'self-supervised' in card.data.tags
    for file in (tmp_path / 'epoch_3.pth', tmp_path / 'model' / 'model.safetensors'):
        assert hashlib.sha256(file.read_bytes()).hexdigest() in content
    source, _ = run_file(tmp_path / 'a | <b>.pth')
    main(['export', str(source), '--to', 'transformers', str(tmp_path / 'other')])
    assert 'Its card names no license: give --license' in capsys.readouterr().out
    card = ModelCard((tmp_path / 'other' / 'README.md').read_text())
    assert card.data.license is None
    rows = [line for line in card.text.splitlines() if line.startswith('|')]
    assert {len(re.findall(r'(?<!\\)\|', row)) for row in rows} == {3}
    assert '<b>' not in card.text.replace('\\<b\\>', '')


def test_what_is_no_license_or_has_no_place_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, _ = run_file(tmp_path / 'epoch_3.pth')
    for words, said in (
        (['--to', 'transformers', str(tmp_path / 'm'), '--license', 'MIT: yes'], 'word of the Hub'),
        (['--to', 'timm', str(tmp_path / 'm.pth'), '--license', 'mit'], '--license: only --to'),
    ):
        assert main(['export', str(source), *words]) == 2
        assert said in capsys.readouterr().err


def test_the_branch_asked_for(tmp_path: Path) -> None:
    source, _ = run_file(tmp_path / 'epoch_3.pth')
    for branch in ('teacher', 'student'):
        export_folder(source, tmp_path / branch, branch=branch)
        state = load_file(tmp_path / branch / 'model.safetensors')
        content = torch.load(source, weights_only=False)['state_dict']
        assert torch.equal(state['embeddings.cls_token'], content[f'{branch}.cls_token'])


def test_positions_are_those_of_the_file(tmp_path: Path) -> None:
    model = PlainViT(TINY, img_size=48)
    randomize(model)
    source = save({'model': model.state_dict()}, tmp_path / 'a.pth')
    export_folder(source, tmp_path / 'out', arch=TINY)  # an architecture of 32 px
    state = load_file(tmp_path / 'out' / 'model.safetensors')
    assert torch.equal(state['embeddings.position_embeddings'], model.pos_embed)
    assert json.loads((tmp_path / 'out' / 'config.json').read_text())['image_size'] == 48


def test_other_ways_to_resample_are_said(tmp_path: Path) -> None:
    model = PlainViT(dict(TINY, init_values=1.0))
    randomize(model)
    state = {**model.state_dict(), 'mask_token': torch.zeros(1, 32)}
    source = save(state, tmp_path / 'dinov2.pth')
    said = export_folder(source, tmp_path / 'out', arch=dict(TINY, init_values=1.0))
    assert 'by bicubic in transformers and by bicubic-offset' in said
    assert 'bicubic-offset' in (tmp_path / 'out' / 'README.md').read_text()


class TestRefused:
    def test_a_folder_that_exists(self, tmp_path: Path) -> None:
        source, _ = run_file(tmp_path / 'epoch_3.pth')
        target = tmp_path / 'out'
        export_folder(source, target)
        (target / 'mine').write_text('x')
        with pytest.raises(UserError, match=r'exists already.*--force'):
            export_folder(source, target)
        export_folder(source, target, force=True)
        assert not (target / 'mine').exists()
        assert (target / 'config.json').exists()

    @pytest.mark.parametrize('force', [True, False])
    def test_a_folder_of_something_else(self, force: bool, tmp_path: Path) -> None:
        source, _ = run_file(tmp_path / 'epoch_3.pth')
        (tmp_path / 'photos').mkdir()
        for target in (tmp_path / 'photos', source):
            with pytest.raises(UserError, match='is no exported model'):
                export_folder(source, target, force=force)
        assert source.exists()

    def test_a_run_with_windows(self, tmp_path: Path) -> None:
        source, _ = run_file(tmp_path / 'epoch_3.pth', window_size=2)
        with pytest.raises(UserError, match='window_size=2'):
            export_folder(source, tmp_path / 'out')
        assert not (tmp_path / 'out').exists()

    def test_without_an_architecture(self, tmp_path: Path) -> None:
        source = save({'model': PlainViT(TINY).state_dict()}, tmp_path / 'a.pth')
        with pytest.raises(UserError, match=r'Give it with --arch'):
            export_folder(source, tmp_path / 'out')

    def test_a_failure_leaves_the_old_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        target = tmp_path / 'out'
        write_folder(target, {'config.json': b'old'})

        def fails(path: Path, content: bytes) -> None:
            raise UserError('no room')

        monkeypatch.setattr('moca.checkpoints.model_folder.write_file', fails)
        with pytest.raises(UserError, match='no room'):
            write_folder(target, {'config.json': b'new'})
        assert (target / 'config.json').read_bytes() == b'old'
        assert [path.name for path in tmp_path.iterdir()] == ['out']
