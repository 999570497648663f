"""Load anybody's ViT checkpoint into a :class:`PlainViT`, loudly, or refuse it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import WEIGHT_INITIALIZERS
from timm.layers import get_act_layer
from torch import Tensor

from moca.backbone.arch import ArchSpec
from moca.backbone.positions import resample_positions
from moca.backbone.vit import PlainViT
from moca.backbone.windows import REL_POS
from moca.checkpoints.families import (
    Encoder,
    StateDict,
    find_encoder,
    fitting_archs,
    known_heads,
    timm_names,
)
from moca.checkpoints.info import CheckpointInfo, describe, normalization_text
from moca.checkpoints.reading import read_file
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
            + _remedy(encoder)
        )
    _check_layers(encoder, info, model)
    heads = known_heads(encoder)
    if heads is not None and model.num_heads != heads:
        raise CheckpointMismatch(
            f'{info.path}: {info} and {heads} heads; the backbone has {model.num_heads}. The '
            'weights would load and mean nothing. ' + _remedy(encoder)
        )
    for key, value in state.items():
        if not torch.isfinite(value).all():
            raise UserError(
                f'{info.path}: {key} holds NaN or infinite values: the run that wrote it had '
                'diverged. Use an earlier checkpoint.'
            )
    if 'pos_embed' in state:
        state['pos_embed'], resampled = _resample(state['pos_embed'], info, model, grid)
    return {key: value.to(expected[key].dtype) for key, value in state.items()}, resampled


def _check_layers(encoder: Encoder, info: CheckpointInfo, model: PlainViT) -> None:
    """What no tensor shows: the activation."""
    wanted = get_act_layer(encoder.built.get('act_layer') or 'gelu')
    mlp: Any = model.blocks[0].mlp
    if encoder.built.get('mlp') is None and type(mlp.act).__name__ != wanted.__name__:
        raise CheckpointMismatch(
            f'{info.path}: its activation is {wanted.__name__}, the backbone has '
            f'{type(mlp.act).__name__}. Leave --arch out to take the architecture of the file, or '
            'give arch.act_layer.'
        )


def _set_eps(model: PlainViT, eps: float | None) -> str:
    """Give a backbone's norms the eps of a file, which no tensor shows; says what changed."""
    before = model.norm_eps
    if eps is None or before == eps:
        return ''
    model.norm_eps = eps
    return f'; eps of norms {before:g} -> {eps:g}'


def _remedy(encoder: Encoder) -> str:
    said = [encoder.arch] if isinstance(encoder.arch, str) else fitting_archs(encoder)
    names = [f'--arch {name}' for name in said]
    return (
        f'Choose the architecture of the file ({" or ".join(names) or "--arch"}), or another file '
        'or branch.'
    )


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


def inspect_checkpoint(
    path: str | Path, branch: str | None = None, trust: bool = False, prefix: str | None = None
) -> CheckpointInfo:
    """Describe the encoder in a checkpoint file; raises as :func:`read_file` does."""
    encoder = find_encoder(read_file(path, trust), path, branch, prefix)
    return replace(describe(path, encoder), fitting=tuple(fitting_archs(encoder)))


def load_checkpoint(
    model: PlainViT,
    path: str | Path,
    branch: str | None = None,
    *,
    grid: tuple[int, int] | None = None,
    trust: bool = False,
    prefix: str | None = None,
) -> CheckpointInfo:
    """Load the encoder of a checkpoint file into a backbone, every parameter or none.

    The position embedding is resampled to the backbone's grid, in fp32. A backbone whose
    ``interpolation`` is None takes that of the file's family, for images of other sizes as well.
    What was loaded is logged.

    Args:
        model: The backbone.
        path: A ``.pth`` or ``.safetensors`` file of any family of :mod:`moca.checkpoints.families`.
        branch: ``teacher`` or ``student``, where the file has both.
        grid: Rows and columns of the file's position embedding, where they are not square.
        trust: Read with plain pickle.
        prefix: What stands before the encoder's keys, in a file of several.

    Raises:
        CheckpointMismatch: A backbone parameter has no counterpart in the file, or the other
            way round, or shapes differ.
        UserError: The file cannot be read, or lacks the branch.
    """
    encoder = find_encoder(read_file(path, trust), path, branch, prefix)
    info = describe(path, encoder)
    state, resampled = fit_state(encoder, info, model, grid)
    model.interpolation = model.interpolation or info.interpolation
    resampled += _set_eps(model, info.norm_eps)
    model.mean, model.std = info.mean, info.std
    absent = model.load_state_dict(state, strict=False).missing_keys
    count = sum(value.numel() for value in state.values())
    total = sum(value.numel() for value in model.state_dict().values())
    lines = [
        f'Loaded {path}: {info}',
        f'  {len(state)} tensors, {count / 1e6:.2f} M of {total / 1e6:.2f} M backbone parameters '
        f'({count / total:.0%}); {resampled}',
    ]
    lines.append(f'  images are normalized with {normalization_text(info)}')
    if absent:
        lines.append(f'  {len(absent)} relative positions are not in the file and start from zero')
    if branch is not None and branch != info.branch:
        lines.append(f'  the file holds a single encoder: branch={branch!r} had no effect')
    if info.ignored:
        lines.append(f'  left out {len(info.ignored)} others: {", ".join(info.ignored[:4])} ...')
    print_log('\n'.join(lines), logger='current')
    return info


def check_checkpoint(
    path: str | Path,
    arch: ArchSpec,
    branch: str | None = None,
    *,
    img_size: int | Sequence[int] | None = None,
    grid: tuple[int, int] | None = None,
    trust: bool = False,
    prefix: str | None = None,
) -> CheckpointInfo:
    """Verify, without building weights, that a checkpoint fits an architecture.

    Args:
        path: The file.
        arch: See :class:`PlainViT`, as for ``img_size``.
        branch: As for :func:`load_checkpoint`, as are the others.

    Raises:
        CheckpointMismatch: It does not; see :func:`load_checkpoint`.
    """
    encoder = find_encoder(read_file(path, trust), path, branch, prefix)
    info = describe(path, encoder)
    with torch.device('meta'):
        model = PlainViT(arch, img_size=img_size)
    fit_state(encoder, info, model, grid)
    return info


@WEIGHT_INITIALIZERS.register_module()
class ViTCheckpoint:
    """Initializer for ``init_cfg``: see :func:`load_checkpoint` for the arguments."""

    def __init__(
        self,
        checkpoint: str,
        branch: str | None = None,
        grid: tuple[int, int] | None = None,
        trust: bool = False,
        prefix: str | None = None,
    ) -> None:
        self.checkpoint = checkpoint
        self.prefix = prefix
        self.branch = branch
        self.grid = grid
        self.trust = trust

    def __call__(self, module: PlainViT) -> None:
        load_checkpoint(
            module,
            self.checkpoint,
            self.branch,
            grid=self.grid,
            trust=self.trust,
            prefix=self.prefix,
        )


def set_checkpoint(
    cfg: Config,
    checkpoint: str | Path | None,
    branch: str | None = None,
    trust: bool = False,
    grid: Sequence[int] | None = None,
    prefix: str | None = None,
) -> None:
    """Initialize the backbone from a checkpoint of any family, or randomly if it is None.

    Args:
        cfg: Config with ``model.backbone``, which is changed.
        checkpoint: File, or None for random weights.
        branch, trust, grid, prefix: As :func:`load_checkpoint` takes them.
    """
    cfg.model.backbone.init_cfg = (
        None
        if checkpoint is None
        else dict(
            type='ViTCheckpoint',
            checkpoint=str(checkpoint),
            branch=branch,
            trust=trust,
            prefix=prefix,
            grid=None if grid is None else tuple(grid),
        )
    )
