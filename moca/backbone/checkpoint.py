"""Load anybody's ViT checkpoint into a :class:`PlainViT`, loudly, or refuse it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from mmengine.logging import print_log
from mmengine.registry import WEIGHT_INITIALIZERS

from moca.backbone.arch import ArchSpec
from moca.backbone.files import find_encoder
from moca.backbone.fit import fit_state
from moca.backbone.info import CheckpointInfo, describe
from moca.backbone.names import fitting_archs
from moca.backbone.read import read_file
from moca.backbone.vit import PlainViT


def inspect_checkpoint(
    path: str | Path, branch: str | None = None, trust: bool = False
) -> CheckpointInfo:
    """Describe the encoder in a checkpoint file; raises as :func:`read_file` does."""
    encoder = find_encoder(read_file(path, trust), path, branch)
    return replace(describe(path, encoder), fitting=tuple(fitting_archs(encoder)))


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
    info = describe(path, encoder)
    state, resampled = fit_state(encoder, info, model, grid)
    absent = model.load_state_dict(state, strict=False).missing_keys
    count = sum(value.numel() for value in state.values())
    total = sum(value.numel() for value in model.state_dict().values())
    lines = [
        f'Loaded {path}: {info}',
        f'  {len(state)} tensors, {count / 1e6:.2f} M of {total / 1e6:.2f} M backbone parameters '
        f'({count / total:.0%}); {resampled}',
    ]
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
) -> CheckpointInfo:
    """Verify, without building weights, that a checkpoint fits an architecture.

    Args:
        path: The file.
        arch: See :class:`PlainViT`, as for ``img_size``.
        branch: As for :func:`load_checkpoint`, as are the others.

    Raises:
        CheckpointMismatch: It does not; see :func:`load_checkpoint`.
    """
    encoder = find_encoder(read_file(path, trust), path, branch)
    info = describe(path, encoder)
    with torch.device('meta'):
        model = PlainViT(arch, img_size=img_size)
    fit_state(encoder, info, model, grid)
    return info


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
