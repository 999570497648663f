"""What a run is called: its row in the leaderboard, and its folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from moca.backbone.arch import ArchSpec, build_vit, vit_dimensions
from moca.errors import UserError

RANDOM = 'random'
"""What stands for a checkpoint where a run starts from random weights."""


def checkpoint_label(path: str | Path) -> str:
    """Return a row label for a checkpoint file: its name, with its folder's for mmengine's names.

    Example:
        >>> checkpoint_label('work_dirs/moca_tiny/epoch_10.pth')
        'moca_tiny/epoch_10'
    """
    path = Path(path)
    if re.fullmatch(r'(epoch|iter|best_.*)_\d+|latest', path.stem):
        return f'{path.resolve().parent.name}/{path.stem}'
    return path.stem


def arch_of_each(archs: Sequence[str], checkpoints: Sequence[str]) -> list[str | None]:
    """The architecture of each checkpoint, from what ``--arch`` was given.

    Args:
        archs: One for all or one for each, in their order; none for None.
        checkpoints: Files, or ``random``.

    Raises:
        UserError: There are neither one, nor as many, nor none.
    """
    if len(archs) > 1 and len(archs) != len(checkpoints):
        raise UserError(
            f'{len(archs)} architectures (--arch) for {len(checkpoints)} checkpoints: give one for '
            'each, or one for all.'
        )
    return list(archs) if len(archs) > 1 else [*archs, None][:1] * len(checkpoints)


def branch_of_each(branches: Sequence[str], checkpoints: Sequence[str]) -> list[str | None]:
    """The branch of each checkpoint, from what ``--branch`` was given; ``-`` has none.

    Args:
        branches: One for all or one for each, in their order; none for None.
        checkpoints: Files, or ``random``, which has none.

    Raises:
        UserError: There are neither one, nor as many, nor none.
    """
    if len(branches) > 1 and len(branches) != len(checkpoints):
        raise UserError(
            f'{len(branches)} branches (--branch) for {len(checkpoints)} checkpoints: give one for '
            'each (- for none), or one for all.'
        )
    each = branches if len(branches) > 1 else [*branches, '-'][:1] * len(checkpoints)
    return [
        None if branch == '-' or checkpoint == RANDOM else branch
        for branch, checkpoint in zip(each, checkpoints, strict=True)
    ]


def random_label(arch: ArchSpec) -> str:
    """Return the row label of random weights, which names LayerScale where there is one.

    At LayerScale's usual 1e-5 a random ViT is close to a linear embedding of its patches: another
    baseline than a random ViT without it.
    """
    scale = layer_scale(arch)
    return 'random init' if scale is None else f'random init, LayerScale {scale:g}'


def layer_scale(arch: ArchSpec) -> float | None:
    """Return what LayerScale starts from, None for an architecture without it."""
    with torch.device('meta'):
        block = build_vit(arch).blocks[0]
    return getattr(getattr(block, 'ls1', None), 'init_values', None)


def arch_label(arch: ArchSpec) -> str:
    """Return a short name of an architecture, which may be a dict of dimensions."""
    if isinstance(arch, str):
        return arch
    vit = vit_dimensions(arch)
    return f'vit_{vit.embed_dim}x{vit.depth}_patch{vit.patch_size}'


def run_folder(
    protocol: str,
    checkpoint: dict[str, Any],
    arch: str,
    seed: int | None,
    subset: int | None = None,
) -> Path:
    """Return the default work dir, which differs between runs that measure different things.

    Args:
        protocol: the protocol's name.
        checkpoint: ``name`` and ``branch`` as in ``run.json``.
        arch: see `arch_label`.
        seed: of the run.
        subset: number of training images, if not all of them.

    Example:
        >>> run_folder('my_data', dict(name='a/epoch_9', branch='teacher'), 'vit_tiny_patch16', 0)
        PosixPath('work_dirs/my_data/a-epoch_9_teacher_vit_tiny_patch16_seed0')
    """
    parts = [checkpoint['name'], arch, f'seed{seed}']
    if checkpoint['branch'] in ('teacher', 'student'):
        parts.insert(1, checkpoint['branch'])
    if subset is not None:
        parts.insert(-1, f'{subset}images')
    return Path('work_dirs', _file_name(protocol), '_'.join(map(_file_name, parts)))


def _file_name(text: str) -> str:
    return re.sub(r'[^\w.+=-]+', '-', text).strip('-.') or 'unnamed'
