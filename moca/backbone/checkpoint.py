"""Load anybody's ViT checkpoint into a :class:`PlainViT`, loudly, or refuse it."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import torch
from mmengine.logging import print_log
from mmengine.registry import WEIGHT_INITIALIZERS
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import Tensor

from moca.backbone.arch import ArchSpec
from moca.backbone.files import Encoder, StateDict, find_encoder, read_file
from moca.backbone.vit import PlainViT
from moca.errors import CheckpointMismatch, UserError

_SHOWN = 3  # unmatched keys named in an error, each way


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint file holds.

    Attributes:
        path: The file.
        family: MOCA, MAE, DINO, ..., timm.
        branch: The encoder looked at.
        branches: All encoders in the file.
        embed_dim: Width.
        depth: Number of blocks.
        patch_size: Pixels.
        num_positions: Rows of the position embedding.
        num_registers: Register tokens.
        layer_scale: Whether the blocks have LayerScale.
        num_parameters: Scalars of the trunk.
        ignored: Keys beside the trunk that loading leaves out.
    """

    path: str
    family: str
    branch: str
    branches: tuple[str, ...]
    embed_dim: int
    depth: int
    patch_size: int
    num_positions: int
    num_registers: int
    layer_scale: bool
    num_parameters: int
    ignored: tuple[str, ...]

    def __str__(self) -> str:
        extras = [f'{self.num_registers} registers'] * bool(self.num_registers)
        extras += ['LayerScale'] * self.layer_scale
        return (
            f'{self.family} ({self.branch}): width {self.embed_dim}, {self.depth} blocks, '
            f'patch {self.patch_size}, {self.num_positions} positions'
            + ''.join(f', {extra}' for extra in extras)
        )


def inspect_checkpoint(
    path: str | Path, branch: str | None = None, trust: bool = False
) -> CheckpointInfo:
    """Describe the encoder in a checkpoint file; raises as :func:`read_file` does."""
    return _describe(path, find_encoder(read_file(path, trust), path, branch))


def load_checkpoint(
    model: PlainViT,
    path: str | Path,
    branch: str | None = None,
    *,
    grid: tuple[int, int] | None = None,
    trust: bool = False,
) -> CheckpointInfo:
    """Load the encoder of a checkpoint file into a backbone, every parameter or none.

    The position embedding is resampled to the backbone's grid (in fp32, by the backbone's
    ``interpolation``). What was loaded is logged.

    Args:
        model: The backbone.
        path: A ``.pth`` or ``.safetensors`` file of any family of :mod:`moca.backbone.files`.
        branch: ``teacher`` or ``student``, where the file has both.
        grid: Rows and columns of the file's position embedding, where they are not square.
        trust: Read with plain pickle.

    Raises:
        CheckpointMismatch: A backbone parameter has no counterpart in the file, or the other
            way round, or shapes differ.
        UserError: The file cannot be read, or lacks the branch.
    """
    encoder = find_encoder(read_file(path, trust), path, branch)
    info = _describe(path, encoder)
    state, resampled = _fit(encoder, info, model, grid)
    model.load_state_dict(state)
    count = sum(value.numel() for value in state.values())
    total = sum(value.numel() for value in model.state_dict().values())
    lines = [
        f'Loaded {path}: {info}',
        f'  {len(state)} tensors, {count / 1e6:.2f} M of {total / 1e6:.2f} M backbone parameters '
        f'({count / total:.0%}); {resampled}',
    ]
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
    grid: tuple[int, int] | None = None,
    trust: bool = False,
) -> CheckpointInfo:
    """Verify, without building weights, that a checkpoint fits an architecture.

    Raises:
        CheckpointMismatch: It does not; see :func:`load_checkpoint`.
    """
    encoder = find_encoder(read_file(path, trust), path, branch)
    info = _describe(path, encoder)
    with torch.device('meta'):
        model = PlainViT(arch)
    _fit(encoder, info, model, grid)
    return info


def export_encoder(
    source: str | Path, target: str | Path, branch: str | None = None, trust: bool = False
) -> CheckpointInfo:
    """Write one encoder of a checkpoint alone, under timm's names, atomically.

    Args:
        source: Any checkpoint that :func:`load_checkpoint` reads.
        target: ``.safetensors`` or ``.pth`` file to write.
        branch: ``teacher`` or ``student``.
        trust: Read the source with plain pickle.
    """
    encoder = find_encoder(read_file(source, trust), source, branch)
    info = _describe(source, encoder)
    state = {key: value.contiguous().clone() for key, value in _timm_names(encoder).items()}
    notes = dict(family=info.family, branch=info.branch, source=Path(source).name)
    write_state(state, target, notes)
    return info


def write_state(state: StateDict, target: str | Path, notes: Mapping[str, str]) -> None:
    """Write tensors to a ``.safetensors`` or ``.pth`` file, which appears whole or not at all."""
    target = Path(target)
    if target.suffix not in ('.safetensors', '.pth'):
        raise UserError(f'{target}: choose a name that ends in .safetensors or .pth.')
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f'.{target.name}.{os.getpid()}.partial')
    try:
        if target.suffix == '.safetensors':
            save_file(state, partial, metadata=dict(notes))
        else:
            torch.save({'model': state, 'meta': dict(notes)}, partial)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


@WEIGHT_INITIALIZERS.register_module()
class ViTCheckpoint:
    """Initialiser for ``init_cfg``: see :func:`load_checkpoint` for the arguments."""

    def __init__(
        self,
        checkpoint: str,
        branch: str | None = None,
        grid: tuple[int, int] | None = None,
        trust: bool = False,
    ) -> None:
        self.checkpoint = checkpoint
        self.branch = branch
        self.grid = grid
        self.trust = trust

    def __call__(self, module: PlainViT) -> None:
        load_checkpoint(module, self.checkpoint, self.branch, grid=self.grid, trust=self.trust)


def _timm_names(encoder: Encoder) -> StateDict:
    # timm's filter renames DINOv2's. It would resample to the model's grid as well; a model
    # without positions keeps it from that (see _fit).
    state = dict(encoder.state)
    kernel = state['patch_embed.proj.weight']
    if kernel.ndim == 2:  # a linear layer on flattened patches, in old timm files
        patch = math.isqrt(kernel.shape[1] // 3)
        kernel = state['patch_embed.proj.weight'] = kernel.reshape(-1, 3, patch, patch)
    if 'register_tokens' in state or any('.mlp.w12.' in key for key in state):
        state.setdefault('mask_token', torch.empty(0))  # what timm tells DINOv2 by
    shape = SimpleNamespace(
        pos_embed=None, patch_embed=SimpleNamespace(proj=SimpleNamespace(weight=kernel))
    )
    state = checkpoint_filter_fn(state, shape)
    if 'norm.weight' not in state:
        # a classifier that norms the pooled vector: the same norm, applied to each token
        state = {key.replace('fc_norm.', 'norm.', 1): value for key, value in state.items()}
    return {key: value for key, value in state.items() if not key.startswith('fc_norm.')}


def _fit(
    encoder: Encoder, info: CheckpointInfo, model: PlainViT, grid: tuple[int, int] | None
) -> tuple[StateDict, str]:
    """The state to load into `model`, and a word on the position embedding."""
    state = _timm_names(encoder)
    expected = model.state_dict()
    resampled = 'no positions'
    missing = [key for key in expected if key not in state]
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
            + 'Choose the architecture of the file (--arch), or another file or branch.'
        )
    if 'pos_embed' in state:
        state['pos_embed'], resampled = _resample(state['pos_embed'], info, model, grid)
    return {key: value.to(expected[key].dtype) for key, value in state.items()}, resampled


def _resample(
    positions: Tensor, info: CheckpointInfo, model: PlainViT, grid: tuple[int, int] | None
) -> tuple[Tensor, str]:
    prefix = 0 if model.no_embed_class else model.num_prefix_tokens
    count = positions.shape[1] - prefix
    side = math.isqrt(max(count, 0))
    if grid is None:
        if count == model.grid[0] * model.grid[1] and side * side != count:
            grid = model.grid
        else:
            grid = (side, side)
    if grid[0] * grid[1] != count:
        raise CheckpointMismatch(
            f'{info.path}: pos_embed has {positions.shape[1]} rows, which is not {prefix} prefix '
            f'tokens and a grid of {grid[0]} x {grid[1]}. Choose the architecture of the file, '
            'or give the rows and columns of a grid that is not square (grid=(rows, columns)).'
        )
    if grid == model.grid:
        return positions, f'positions {grid[0]} x {grid[1]} as they are'
    resampled = resample_abs_pos_embed(
        positions.float(), list(model.grid), list(grid), prefix, model.interpolation
    )
    return resampled, (
        f'positions resampled from {grid[0]} x {grid[1]} to {model.grid[0]} x {model.grid[1]} '
        f'({model.interpolation})'
    )


def _describe(path: str | Path, encoder: Encoder) -> CheckpointInfo:
    state = encoder.state
    blocks = {int(key.split('.')[1]) for key in state if key.startswith('blocks.')}
    kernel = state['patch_embed.proj.weight']
    registers = state.get('reg_token', state.get('register_tokens'))
    # kernels of old timm files are flat: [C, 3 * patch * patch]
    patch = kernel.shape[-1] if kernel.ndim == 4 else math.isqrt(kernel.shape[-1] // 3)
    return CheckpointInfo(
        path=str(path),
        family=encoder.family,
        branch=encoder.branch,
        branches=encoder.branches,
        embed_dim=kernel.shape[0],
        depth=len(blocks),
        patch_size=patch,
        num_positions=state['pos_embed'].shape[1] if 'pos_embed' in state else 0,
        num_registers=0 if registers is None else registers.shape[1],
        layer_scale='blocks.0.ls1.gamma' in state,
        num_parameters=sum(value.numel() for value in state.values()),
        ignored=encoder.ignored,
    )


def _listed(title: str, rows: list[str]) -> str:
    if not rows:
        return ''
    more = f' (+{len(rows) - _SHOWN} more)' if len(rows) > _SHOWN else ''
    return f'{title}: {", ".join(rows[:_SHOWN])}{more}. '
