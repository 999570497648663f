"""Load anybody's ViT checkpoint into a :class:`PlainViT`, loudly, or refuse it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import WEIGHT_INITIALIZERS

from moca.backbone.arch import ArchSpec
from moca.backbone.vit import PlainViT
from moca.checkpoints.changes import changed
from moca.checkpoints.encoder import Encoder, fitting_archs
from moca.checkpoints.finding import find_encoder
from moca.checkpoints.fitting import fit_state
from moca.checkpoints.info import CheckpointInfo, describe, normalization_text
from moca.checkpoints.reading import read_file
from moca.errors import UserError

AUTO = 'auto'
"""What ``--arch`` takes the architecture of the checkpoint by."""


def _set_eps(model: PlainViT, eps: float | None) -> str:
    """Give a backbone's norms the eps of a file, which no tensor shows; says what changed."""
    before = model.norm_eps
    if eps is None or before == eps:
        return ''
    model.norm_eps = eps
    return f'; eps of norms {before:g} -> {eps:g}'


def open_encoder(
    path: str | Path,
    branch: str | None = None,
    trust: bool = False,
    prefix: str | None = None,
    content: dict[str, Any] | None = None,
    **changes: Any,
) -> tuple[Encoder, CheckpointInfo]:
    """Read a file, find its encoder, and change of it what is asked for.

    Args:
        path: A file of any family of :mod:`moca.checkpoints.families`.
        branch: ``teacher`` or ``student``, where the file has both.
        trust: Read with plain pickle.
        prefix: What stands before the encoder's keys, in a file of several.
        content: What `read_file` returned, where the file has been read already.
        changes: What :func:`moca.checkpoints.changes.changed` takes: ``patch``, ``mean``, ...

    Raises:
        UserError: The file cannot be read, or lacks the branch, or a change is impossible.
    """
    content = read_file(path, trust) if content is None else content
    found = find_encoder(content, path, branch, prefix)
    encoder = changed(found, path, **changes)
    own = found.state['patch_embed.proj.weight'].shape[-1]
    return encoder, replace(describe(path, encoder), file_patch=own)


def inspect_checkpoint(
    path: str | Path,
    branch: str | None = None,
    trust: bool = False,
    prefix: str | None = None,
    **changes: Any,
) -> CheckpointInfo:
    """Describe the encoder of a file; takes and raises what :func:`open_encoder` does."""
    encoder, info = open_encoder(path, branch, trust, prefix, **changes)
    return replace(info, fitting=tuple(fitting_archs(encoder)))


def load_checkpoint(
    model: PlainViT,
    path: str | Path,
    branch: str | None = None,
    *,
    grid: tuple[int, int] | None = None,
    trust: bool = False,
    prefix: str | None = None,
    content: dict[str, Any] | None = None,
    **changes: Any,
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
        content: What `read_file` returned, where the file has been read already.
        changes: What :func:`moca.checkpoints.changes.changed` takes: ``patch``, ``mean``, ...

    Raises:
        CheckpointMismatch: A backbone parameter has no counterpart in the file, or the other
            way round, or shapes differ.
        UserError: The file cannot be read, or lacks the branch, or a change is impossible.
    """
    encoder, info = open_encoder(path, branch, trust, prefix, content, **changes)
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
    if info.resampled_from is not None:
        lines.append(
            f'  patch kernels resampled from {info.resampled_from} to {info.patch_size} pixels '
            "(FlexiViT's pseudo-inverse)"
        )
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
    **changes: Any,
) -> CheckpointInfo:
    """Verify, without building weights, that a checkpoint fits an architecture.

    Args:
        path: The file.
        arch: See :class:`PlainViT`, as for ``img_size``.
        branch: As for :func:`load_checkpoint`, as are the others.

    Raises:
        CheckpointMismatch: It does not; see :func:`load_checkpoint`.
    """
    encoder, info = open_encoder(path, branch, trust, prefix, **changes)
    with torch.device('meta'):
        model = PlainViT(arch, img_size=img_size)
    fit_state(encoder, info, model, grid)
    return info


def arch_of_file(
    path: str | Path,
    branch: str | None = None,
    trust: bool = False,
    prefix: str | None = None,
    **changes: Any,
) -> ArchSpec:
    """The architecture that ``--arch auto`` stands for; takes what :func:`open_encoder` does.

    Raises:
        UserError: Nothing tells the number of heads.
    """
    info = inspect_checkpoint(path, branch, trust, prefix, **changes)
    if info.arch is None:
        fits = ''.join(f' ({name} has its shapes)' for name in info.fitting)
        raise UserError(
            f'{path}: nothing tells the number of heads of this ViT{fits}. Give --arch, or '
            'model.backbone.arch with num_heads.'
        )
    print_log(f'--arch {AUTO}: {info.arch}', 'current')
    return info.arch


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
        **changes: Any,
    ) -> None:
        self.checkpoint = checkpoint
        self.changes = changes
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
            **self.changes,
        )


def set_checkpoint(
    cfg: Config,
    checkpoint: str | Path | None,
    branch: str | None = None,
    trust: bool = False,
    grid: Sequence[int] | None = None,
    prefix: str | None = None,
    changes: Mapping[str, Any] | None = None,
) -> None:
    """Initialize the backbone from a checkpoint of any family, or randomly if it is None.

    Args:
        cfg: Config with ``model.backbone``, which is changed.
        checkpoint: File, or None for random weights.
        branch, trust, grid, prefix: As :func:`load_checkpoint` takes them.
        changes: What else it takes.
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
            **(changes or {}),
        )
    )
