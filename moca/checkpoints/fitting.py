"""Whether the encoder of a file fits a backbone: tensors, layers, heads and positions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from timm.layers import get_act_layer
from torch import Tensor

from moca.backbone.positions import resample_positions
from moca.backbone.vit import PlainViT
from moca.backbone.windows import REL_POS
from moca.checkpoints.encoder import (
    Encoder,
    built_arch,
    fitting_archs,
    known_heads,
    timm_names,
)
from moca.checkpoints.info import CheckpointInfo
from moca.checkpoints.names.trunk import StateDict
from moca.errors import CheckpointMismatch, UserError

_SHOWN = 3  # unmatched keys named in an error, each way


def fit_state(
    encoder: Encoder, info: CheckpointInfo, model: PlainViT, grid: tuple[int, int] | None
) -> tuple[StateDict, str]:
    """The state to load into ``model``, and a word on the position embedding.

    Relative positions, which start from zero, may be absent from both.

    Raises:
        CheckpointMismatch: Keys, shapes or the number of heads differ.
        UserError: A tensor holds NaN or infinite values.
    """
    if encoder.refusal is not None:
        raise UserError(f'{info.path}: {encoder.refusal}')
    state = timm_names(encoder)
    expected = model.state_dict()
    resampled = 'no positions'
    missing = [key for key in expected if key not in state and not key.endswith(REL_POS)]
    unexpected = [key for key in state if key not in expected]
    shapes = [
        f'{key} {list(state[key].shape)} in the file, {list(value.shape)} in the backbone'
        for key, value in expected.items()
        if key in state and state[key].shape != value.shape and key != 'pos_embed'
    ]
    if missing or unexpected or shapes:
        raise CheckpointMismatch(
            f'{info.path}: does not fit the backbone (width {model.embed_dims}, '
            f'{model.num_layers} blocks, patch {model.patch_size}). The file holds {info}. '
            + _listed('In the backbone but not in the file', missing)
            + _listed('In the file but not in the backbone', unexpected)
            + _listed('Shapes', shapes)
            + _remedy(encoder, model)
        )
    _check_layers(encoder, info, model)
    heads = known_heads(encoder)
    if heads is not None and model.num_heads != heads:
        raise CheckpointMismatch(
            f'{info.path}: {info} and {heads} heads; the backbone has {model.num_heads}. The '
            'weights would load and mean nothing. ' + _remedy(encoder, model)
        )
    for key, value in state.items():
        if not torch.isfinite(value).all():
            raise UserError(
                f'{info.path}: {key} holds NaN or infinite values: the run that wrote it had '
                'diverged. Use an earlier checkpoint.'
            )
    if 'pos_embed' in state:
        state['pos_embed'], resampled = _resample(
            state['pos_embed'], info, model, grid or info.grid
        )
    return {key: value.to(expected[key].dtype) for key, value in state.items()}, resampled


def _check_layers(encoder: Encoder, info: CheckpointInfo, model: PlainViT) -> None:
    """What no tensor shows: the activation."""
    said = encoder.arch if isinstance(encoder.arch, Mapping) else encoder.built
    wanted = get_act_layer(said.get('act_layer') or 'gelu')
    mlp: Any = model.blocks[0].mlp
    if encoder.built.get('mlp') is None and type(mlp.act).__name__ != wanted.__name__:
        raise CheckpointMismatch(
            f'{info.path}: its activation is {wanted.__name__}, the backbone has '
            f'{type(mlp.act).__name__}. Leave --arch out to take the architecture of the file, or '
            'give arch.act_layer.'
        )


def _remedy(encoder: Encoder, model: PlainViT) -> str:
    said = [encoder.arch] if isinstance(encoder.arch, str) else fitting_archs(encoder)
    names = [f'--arch {name}' for name in said]
    if built_arch(encoder) is not None:
        names.insert(0, '--arch auto')
    text = (
        f'Choose the architecture of the file ({" or ".join(names) or "--arch"}), or another file '
        'or branch.'
    )
    if encoder.state['patch_embed.proj.weight'].shape[-1] != model.patch_size:
        text += (
            f' Patches of {model.patch_size} pixels can be had of this file: --patch '
            f'{model.patch_size} --arch auto resamples its kernels.'
        )
    return text


def _resample(
    positions: Tensor, info: CheckpointInfo, model: PlainViT, grid: tuple[int, int] | None
) -> tuple[Tensor, str]:
    prefix = 0 if model.no_embed_class else model.num_prefix_tokens
    count = positions.shape[1] - prefix
    side = math.isqrt(max(count, 0))
    rows, columns = model.grid
    if grid is None and rows * columns == count and rows != columns:
        if side * side == count:
            raise CheckpointMismatch(
                f'{info.path}: the {count} positions could be a grid of {rows} x {columns}, as in '
                f'the backbone, or of {side} x {side}. Give the rows and columns of the file '
                '(--grid ROWS COLUMNS; in Python and configs grid=(rows, columns)).'
            )
        grid = model.grid
    grid = (side, side) if grid is None else (grid[0], grid[1])
    if min(grid) < 1 or grid[0] * grid[1] != count:
        raise CheckpointMismatch(
            f'{info.path}: pos_embed has {positions.shape[1]} rows, which is not {prefix} prefix '
            f'tokens and a grid of {grid[0]} x {grid[1]}. Choose the architecture of the file, '
            'or give the rows and columns of a grid that is not square (--grid ROWS COLUMNS; in '
            'Python and configs grid=(rows, columns)).'
        )
    if grid == model.grid:
        return positions, f'positions {grid[0]} x {grid[1]} as they are'
    how = model.interpolation or info.interpolation
    patches = resample_positions(positions[:, prefix:].float(), grid, model.grid, how)
    return torch.cat([positions[:, :prefix].float(), patches], dim=1), (
        f'positions resampled from {grid[0]} x {grid[1]} to {model.grid[0]} x {model.grid[1]} '
        f'({how})'
    )


def _listed(title: str, rows: list[str]) -> str:
    if not rows:
        return ''
    more = f' (+{len(rows) - _SHOWN} more)' if len(rows) > _SHOWN else ''
    return f'{title}: {", ".join(rows[:_SHOWN])}{more}. '
