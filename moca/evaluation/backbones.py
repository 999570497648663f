"""Backbones by checkpoint and architecture alone, and images as they take them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.device import get_device
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as transforms

from moca.backbone import PlainViT
from moca.backbone.arch import ArchSpec, vit_dimensions
from moca.checkpoints.containers import file_of_run
from moca.checkpoints.loading import AUTO, CheckpointInfo, inspect_checkpoint, load_checkpoint
from moca.checkpoints.own_size import own_size
from moca.checkpoints.run_names import RANDOM, arch_of_each, checkpoint_label, random_label
from moca.engine.cli import read_config
from moca.errors import UserError
from moca.evaluation.labeled import normalize, read_image


@dataclass(frozen=True)
class NamedBackbone:
    """A backbone in eval mode, on the GPU if there is one, and its name for titles."""

    name: str
    model: PlainViT


def read_arch(text: str) -> ArchSpec:
    """A timm name as it is, or ``model.backbone.arch`` of a config file (``.py``).

    Raises:
        UserError: The config cannot be read, or has no such field.
    """
    if not text.endswith('.py'):
        return text
    arch = ((read_config(text).get('model') or {}).get('backbone') or {}).get('arch')
    if arch is None:
        raise UserError(f'--arch {text}: the config has no model.backbone.arch. Give a timm name.')
    return arch if isinstance(arch, str) else arch.to_dict()


def load_backbones(
    checkpoints: Sequence[str],
    archs: Sequence[str],
    names: Sequence[str] = (),
    *,
    branch: str | None = None,
    block: int = -1,
    grid: tuple[int, int] | None = None,
    trust: bool = False,
    prefix: str | None = None,
    **changes: Any,
) -> list[NamedBackbone]:
    """Load checkpoints of any family, each as :func:`moca.checkpoints.loading.load_checkpoint`.

    Positions stay as they are in the file: they are resampled once, to the grid of each image.

    Args:
        checkpoints: Files, work dirs, or ``random``.
        archs: As for :func:`read_arch`, one for all or one for each; none, or ``auto``, for files
            that say theirs, as those of this suite's runs do.
        names: For titles, one for each; the files' own by default.
        branch: ``teacher`` or ``student``, of files that have both.
        block: The last one to be run; negative counts from the end.
        grid: Rows and columns of the files' positions, where they are not square.
        trust: Read with plain pickle.
        prefix: What stands before the encoders' keys, in files of several.
        changes: ``patch``, ``mean`` and ``std`` of :func:`moca.checkpoints.changes.changed`.

    Raises:
        UserError: A checkpoint or an architecture does not exist, they do not fit, or their
            numbers differ.
    """
    if names and len(names) != len(checkpoints):
        raise UserError(
            f'{len(names)} names (--name) for {len(checkpoints)} checkpoints: give one for each.'
        )
    checkpoints = [file_of_run(checkpoint) for checkpoint in checkpoints]
    given = arch_of_each(archs, checkpoints)
    found = []
    for number, (checkpoint, text) in enumerate(zip(checkpoints, given, strict=True)):
        info = None
        if checkpoint != RANDOM:
            info = inspect_checkpoint(checkpoint, branch, trust, prefix, **changes)
        arch = read_arch(text) if text and text != AUTO else _said_arch(info)
        depth = vit_dimensions(arch).depth
        if not -depth <= block < depth:
            raise UserError(f'--block {block}: {arch} has blocks 0 to {depth - 1}.')
        settings: dict[str, Any] = dict(out_indices=(block,), frozen=True)
        torch.manual_seed(0)  # the same random weights whatever was built before
        if info is None:
            model, name = PlainViT(arch, **settings), random_label(arch)
            model.reset_parameters()
        else:
            size = own_size(info, arch, grid)
            model, name = PlainViT(arch, img_size=size, **settings), checkpoint_label(checkpoint)
            how: dict[str, Any] = dict(grid=grid, trust=trust, prefix=prefix, **changes)
            load_checkpoint(model, checkpoint, branch, **how)
        name = names[number] if names else name
        found.append(NamedBackbone(name, model.to(get_device()).eval()))
    return found


def _said_arch(info: CheckpointInfo | None) -> ArchSpec:
    if info is None:
        raise UserError(f'{RANDOM}: random weights of which architecture? Give --arch.')
    if info.arch is None:
        fits = ' or '.join(f'--arch {name}' for name in info.fitting)
        raise UserError(
            f'{info.path}: the file does not say its architecture. '
            + (f'Its tensors fit {fits}: give that.' if fits else 'Give --arch.')
        )
    return info.arch


def read_input(
    path: Path, size: Sequence[int], model: PlainViT
) -> tuple[NDArray[np.uint8], Tensor]:
    """An image at a size of whole patches.

    Args:
        path: Of the image.
        size: The shorter side in pixels, the other one keeping the shape; or height and width.
            Rounded to whole patches, at least one.
        model: The backbone.

    Returns:
        RGB `[H, W, 3]`, and the same normalized as the backbone wants it, `[1, 3, H, W]`, on the
        backbone's device.

    Raises:
        UserError: The file cannot be decoded.
    """
    return fit_input(read_image(path), size, model)


def fit_input(
    image: Image.Image, size: Sequence[int], model: PlainViT
) -> tuple[NDArray[np.uint8], Tensor]:
    """An image in memory, as :func:`read_input` gives one of a file."""
    scale = size[0] / min(image.size)
    sides = size if len(size) == 2 else (image.height * scale, image.width * scale)
    patch = model.patch_size
    whole = [max(round(side / patch), 1) * patch for side in sides]
    resized: Image.Image = transforms.resize(image, whole, InterpolationMode.BICUBIC)
    tensor = normalize(resized, model.mean, model.std)
    return np.asarray(resized), tensor[None].to(next(model.parameters()).device)
