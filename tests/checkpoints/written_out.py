"""A plain ViT written out, for the families that have no library here."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]

# 64 channels a head, as in most published ViTs, so that the width tells the number of heads
WIDTH, HEADS, DEPTH, PATCH, SIDE = 128, 2, 2, 8, 4


def trunk(
    positions: bool = True,
    registers: int = 0,
    scale: bool = False,
    gated: bool = False,
    bias: bool = True,
    seed: int = 0,
) -> State:
    """Weights of a plain ViT, none of which hides another."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int, about: float = 0.0) -> Tensor:
        return about + torch.randn(*shape, generator=generator) * shape[-1] ** -0.5

    state = {'cls_token': draw(1, 1, WIDTH)}
    if positions:
        state['pos_embed'] = 3 * draw(1, 1 + SIDE * SIDE, WIDTH)
    if registers:
        state['reg_token'] = draw(1, registers, WIDTH)
    state['patch_embed.proj.weight'] = draw(WIDTH, 3, PATCH, PATCH)
    state['patch_embed.proj.bias'] = draw(WIDTH)
    layers = {'attn.qkv': (3 * WIDTH, WIDTH), 'attn.proj': (WIDTH, WIDTH)}
    hidden = 2 * WIDTH
    if gated:
        layers |= {'mlp.w1': (hidden, WIDTH), 'mlp.w2': (hidden, WIDTH), 'mlp.w3': (WIDTH, hidden)}
    else:
        layers |= {'mlp.fc1': (hidden, WIDTH), 'mlp.fc2': (WIDTH, hidden)}
    for index in range(DEPTH):
        block = f'blocks.{index}.'
        for norm in ('norm1', 'norm2'):
            state[f'{block}{norm}.weight'] = draw(WIDTH, about=1.0)
            state[f'{block}{norm}.bias'] = draw(WIDTH)
        for name, shape in layers.items():
            state[f'{block}{name}.weight'] = draw(*shape)
            if bias or name != 'attn.qkv':
                state[f'{block}{name}.bias'] = draw(shape[0])
        if scale:
            state[f'{block}ls1.gamma'] = draw(WIDTH, about=0.5)
            state[f'{block}ls2.gamma'] = draw(WIDTH, about=0.5)
    return state | {'norm.weight': draw(WIDTH, about=1.0), 'norm.bias': draw(WIDTH)}


def periods() -> Tensor:
    """DINOv3's, rounded as in its files; facebookresearch/dinov3, rope_position_encoding.py."""
    count = WIDTH // HEADS // 4
    return (100.0 ** (torch.arange(count) / count)).bfloat16().float()


# How positions of a grid [1, C, rows, columns] are resampled to a size.
def resized(
    grid: Tensor, size: tuple[int, int], mode: str = 'bicubic', antialias: bool = False
) -> Tensor:
    return F.interpolate(grid, size, mode=mode, antialias=antialias)


def offset(grid: Tensor, size: tuple[int, int]) -> Tensor:
    """DINO, iBOT, DINOv2 and Franca: by factors with a tenth of a patch added, where sizes differ.

    facebookresearch/dino, vision_transformer.py, interpolate_pos_encoding.
    """
    factors = [(new + 0.1) / old for new, old in zip(size, grid.shape[2:], strict=True)]
    return (
        grid
        if size == grid.shape[2:]
        else F.interpolate(grid, scale_factor=tuple(factors), mode='bicubic')
    )


smooth = partial(resized, antialias=True)


def quick_gelu(x: Tensor) -> Tensor:
    return x * (1.702 * x).sigmoid()


@torch.no_grad()
def written_out(
    state: State,
    images: Tensor,
    resample: Callable[[Tensor, tuple[int, int]], Tensor] = resized,
    eps: float = 1e-6,
    act: Callable[[Tensor], Tensor] = F.gelu,
) -> Tensor:
    """Tokens after the last norm, of the names of `trunk` and ``norm_pre``, ``periods``."""

    def normed(x: Tensor, name: str) -> Tensor:
        centered = x - x.mean(-1, keepdim=True)
        scaled = centered / (centered.square().mean(-1, keepdim=True) + eps).sqrt()
        return scaled * state[f'{name}.weight'] + state[f'{name}.bias']

    def layer(x: Tensor, name: str) -> Tensor:
        bias = state.get(f'{name}.bias', torch.zeros(()))
        return x @ state[f'{name}.weight'].T + bias * state.get(f'{name}.bias_mask', 1)

    x = F.conv2d(images, state['patch_embed.proj.weight'], stride=PATCH)
    size = (x.shape[2], x.shape[3])
    x = x.flatten(2).transpose(1, 2) + state.get('patch_embed.proj.bias', torch.zeros(()))
    x = torch.cat([state['cls_token'].expand(len(x), -1, -1), x], dim=1)
    if 'pos_embed' in state:
        first, grid = state['pos_embed'][:, :1], state['pos_embed'][:, 1:]
        grid = resample(grid.transpose(1, 2).unflatten(2, (SIDE, SIDE)), size)
        x = x + torch.cat([first, grid.flatten(2).transpose(1, 2)], dim=1)
    if 'reg_token' in state:
        x = torch.cat([x[:, :1], state['reg_token'].expand(len(x), -1, -1), x[:, 1:]], dim=1)
    if 'norm_pre.weight' in state:
        x = normed(x, 'norm_pre')
    prefix = x.shape[1] - size[0] * size[1]
    for index in range(DEPTH):
        block = f'blocks.{index}.'
        heads = layer(normed(x, f'{block}norm1'), f'{block}attn.qkv').unflatten(-1, (3, HEADS, -1))
        q, k, v = heads.permute(2, 0, 3, 1, 4)
        if 'periods' in state:
            q, k = (turned(part, size, prefix, state['periods']) for part in (q, k))
        weights = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1)
        out = layer((weights @ v).transpose(1, 2).flatten(2), f'{block}attn.proj')
        x = x + out * state.get(f'{block}ls1.gamma', 1)
        inner = normed(x, f'{block}norm2')
        if f'{block}mlp.w1.weight' in state:
            gate = F.silu(layer(inner, f'{block}mlp.w1'))
            out = layer(gate * layer(inner, f'{block}mlp.w2'), f'{block}mlp.w3')
        else:
            out = layer(act(layer(inner, f'{block}mlp.fc1')), f'{block}mlp.fc2')
        x = x + out * state.get(f'{block}ls2.gamma', 1)
    return normed(x, 'norm')


def turned(x: Tensor, size: tuple[int, int], prefix: int, periods: Tensor) -> Tensor:
    """DINOv3's rotation of the patches alone; see :func:`periods`."""
    rows, columns = (2 * (torch.arange(side) + 0.5) / side - 1 for side in size)
    places = torch.stack(torch.meshgrid(rows, columns, indexing='ij'), dim=-1).flatten(0, 1)
    angles = (2 * torch.pi * places[:, :, None] / periods).flatten(1).repeat(1, 2)
    still, patches = x[:, :, :prefix], x[:, :, prefix:]
    first, second = patches.chunk(2, dim=-1)
    patches = patches * angles.cos() + torch.cat([-second, first], dim=-1) * angles.sin()
    return torch.cat([still, patches], dim=2)
