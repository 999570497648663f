"""CAPI: read by its published names, held against its network written out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from moca.backbone import PlainViT
from moca.checkpoints import inspect_checkpoint, load_checkpoint
from moca.checkpoints.export import write_encoder
from moca.checkpoints.loading import open_encoder
from moca.errors import CheckpointMismatch, UserError
from tests.backbone.helpers import save

WIDTH, HEADS, DEPTH, REGISTERS, PATCH = 32, 2, 3, 8, 8


def published() -> dict[str, Tensor]:
    """A state dict as the released files have it; every frequency differs."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) * shape[-1] ** -0.5

    state = {
        'backbone.registers': draw(1, REGISTERS, WIDTH),
        'backbone.mask_token': draw(1, WIDTH),
        'backbone.patch_embed.weight': draw(WIDTH, 3, PATCH, PATCH),
        'backbone.patch_embed.bias': draw(WIDTH),
        'head.layer.weight': draw(4, WIDTH),
    }
    for part, depth in (('encoder', DEPTH), ('decoder', 1)):
        for index in range(depth):
            block = f'backbone.{part}.blocks.{index}.'
            for name in ('q_proj', 'k_proj', 'v_proj', 'proj'):
                state[f'{block}residual1.fn.{name}.weight'] = draw(WIDTH, WIDTH)
            state[f'{block}residual1.fn.rope.freqs'] = 3 * draw(2, WIDTH // HEADS)
            state[f'{block}residual2.fn.fc1.weight'] = draw(4 * WIDTH, WIDTH)
            state[f'{block}residual2.fn.fc2.weight'] = draw(WIDTH, 4 * WIDTH)
            for branch in (1, 2):
                state[f'{block}residual{branch}.norm.weight'] = 1 + draw(WIDTH)
    return state


def places(rows: int, columns: int) -> Tensor:
    """Registers around the square, then patches, row by row."""
    quarter = REGISTERS // 4
    edge = [(i / quarter, 0.0) for i in range(quarter)]
    edge += [(1.0, i / quarter) for i in range(quarter)]
    edge += [(1 - i / quarter, 1.0) for i in range(quarter)]
    edge += [(0.0, 1 - i / quarter) for i in range(quarter)]
    grid = [(i / (rows - 1), j / (columns - 1)) for i in range(rows) for j in range(columns)]
    return torch.tensor(edge + grid)


def rms(x: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()


def written_out(state: dict[str, Tensor], images: Tensor) -> Tensor:
    """Tokens after the last norm, ``[B, registers + patches, C]``."""
    state = {key.removeprefix('backbone.'): value for key, value in state.items()}
    x = F.conv2d(images, state['patch_embed.weight'], state['patch_embed.bias'], stride=PATCH)
    coordinates = places(*x.shape[2:])
    registers = state['registers'].expand(len(images), -1, -1)
    x = torch.cat([registers, x.flatten(2).transpose(1, 2)], dim=1)
    for index in range(DEPTH):
        block = f'encoder.blocks.{index}.'
        angles = coordinates @ state[f'{block}residual1.fn.rope.freqs']

        def turned(heads: Tensor, angles: Tensor = angles) -> Tensor:
            first, second = heads.chunk(2, dim=-1)
            return heads * angles.cos() + torch.cat([-second, first], dim=-1) * angles.sin()

        normed = rms(x) * state[f'{block}residual1.norm.weight']
        q, k, v = (
            (normed @ state[f'{block}residual1.fn.{name}_proj.weight'].T)
            .unflatten(-1, (HEADS, -1))
            .transpose(1, 2)
            for name in 'qkv'
        )
        logits = turned(q) @ turned(k).transpose(-2, -1) * (WIDTH // HEADS) ** -0.5
        out = (logits.softmax(-1) @ v).transpose(1, 2).flatten(2)
        x = x + out @ state[f'{block}residual1.fn.proj.weight'].T
        normed = rms(x) * state[f'{block}residual2.norm.weight']
        hidden = F.gelu(normed @ state[f'{block}residual2.fn.fc1.weight'].T)
        x = x + hidden @ state[f'{block}residual2.fn.fc2.weight'].T
    return rms(x)


def loaded(path: Path, **options: Any) -> PlainViT:
    arch = inspect_checkpoint(path).arch
    assert arch is not None
    model = PlainViT(arch, img_size=32, **options)
    load_checkpoint(model, path)
    return model.eval()


@torch.no_grad()
@pytest.mark.parametrize('size', [(32, 32), (48, 48), (24, 56)])
def test_features(size: tuple[int, int], tmp_path: Path) -> None:
    state = published()
    model = loaded(save(state, tmp_path / 'capi.pth'))
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    tokens = model.tokens(images)
    expected = written_out(state, images)
    ours = torch.cat([tokens.prefix, tokens.patches], dim=1)
    assert (ours - expected).abs().max() < 1e-5 * expected.abs().max()


@torch.no_grad()
def test_kept_tokens_and_a_window_over_the_whole_image(tmp_path: Path) -> None:
    path = save(published(), tmp_path / 'capi.pth')
    model, images = loaded(path), torch.randn(2, 3, 40, 40)
    whole = model.tokens(images)
    order = torch.randperm(25)
    kept = model.tokens(images, order[None].expand(2, -1))
    torch.testing.assert_close(kept.patches, whole.patches[:, order], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(kept.prefix, whole.prefix, rtol=1e-4, atol=1e-5)
    # of rows 1 to 3 alone, registers lie around those
    table = model._table((5, 5), REGISTERS, torch.arange(5, 20)[None])
    assert table is not None
    assert table[0, :REGISTERS, 0].min() == 0.25
    assert table[0, :REGISTERS, 0].max() == 0.75
    # windows have no registers: held against a ViT without
    windows = loaded(path, window_size=5)
    bare = PlainViT({**inspect_checkpoint(path).arch, 'reg_tokens': 0}, img_size=32)
    bare.load_state_dict(model.state_dict(), strict=False)
    torch.testing.assert_close(windows(images)[0], bare.eval()(images)[0], rtol=1e-4, atol=1e-5)


def test_what_is_said_of_it(tmp_path: Path) -> None:
    path = save(published(), tmp_path / 'capi.pth')
    info = inspect_checkpoint(path)
    assert (info.family, info.num_registers, info.num_positions) == ('CAPI', REGISTERS, 0)
    assert {key.split('.')[0] for key in info.ignored} == {'mask_token', 'decoder', 'head'}
    encoder, _ = open_encoder(path)
    with pytest.raises(UserError, match='CAPI: rotary positions of that kind'):
        write_encoder(encoder, {}, tmp_path / 'b.safetensors')


def test_frequencies_that_no_checkpoint_sets_are_those_of_the_source() -> None:
    arch = dict(patch_size=8, embed_dim=32, depth=1, num_heads=1, rope=dict(kind='learned'))
    freqs = PlainViT(arch, img_size=32).blocks[0].attn.freqs / (2 * torch.pi)
    assert freqs.shape == (2, 32)
    assert freqs[0, 16:].eq(0).all()
    assert freqs[1, :16].eq(0).all()
    for half in (freqs[0, :8], freqs[0, 8:16], freqs[1, 16:24], freqs[1, 24:]):
        torch.testing.assert_close(half[[0, -1]], torch.tensor([7.0, 7e-4]))
        torch.testing.assert_close(half[1:] / half[:-1], torch.full((7,), 1e-4 ** (1 / 7)))


@pytest.mark.parametrize(
    'key',
    ['registers', 'patch_embed.weight', 'patch_embed.bias']
    + [f'encoder.blocks.0.residual1.{name}' for name in ('norm.weight', 'fn.rope.freqs')]
    + [f'encoder.blocks.1.residual1.fn.{name}' for name in ('k_proj.weight', 'rope.freqs')]
    + ['encoder.blocks.2.residual2.fn.fc1.weight', 'encoder.blocks.1.residual1.fn.proj.weight'],
)
@pytest.mark.parametrize('how', ['dropped', 'renamed'])
def test_nothing_that_acts_on_tokens_is_overlooked(key: str, how: str, tmp_path: Path) -> None:
    state = published()
    arch = inspect_checkpoint(save(state, tmp_path / 'a.pth')).arch
    assert arch is not None
    value = state.pop(f'backbone.{key}')
    if how == 'renamed':
        state[f'backbone.{key}_strange'] = value
    with pytest.raises((CheckpointMismatch, UserError)):
        load_checkpoint(PlainViT(arch), save(state, tmp_path / 'b.pth'))
