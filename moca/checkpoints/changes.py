"""What a command line changes in an encoder: differences added, patches, normalization."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from timm.layers import resample_patch_embed

from moca.checkpoints.encoder import Encoder
from moca.checkpoints.finding import find_encoder
from moca.checkpoints.names.trunk import Statistics
from moca.checkpoints.reading import read_file
from moca.command_line import add_change_arguments as add_change_arguments
from moca.command_line import add_delta_argument as add_delta_argument
from moca.errors import UserError
from moca.images.transforms import IMAGENET_MEAN, IMAGENET_STD

_KERNEL = 'patch_embed.proj.weight'
_FIELDS = ('patch', 'mean', 'std', 'delta_of')


def changes_of(args: argparse.Namespace) -> dict[str, Any]:
    """What is given of the options that change an encoder, as the reader takes it."""
    given = {field: getattr(args, field, None) for field in _FIELDS}
    return {
        field: tuple(value) if isinstance(value, list) else value
        for field, value in given.items()
        if value is not None
    }


def change_arguments(changes: Mapping[str, Any]) -> list[str]:
    """The command line that `changes_of` reads as these changes."""
    words: list[str] = []
    for field, value in changes.items():
        values = value if field in ('mean', 'std') else [value]
        words += [f'--{field}'.replace('_', '-'), *map(str, values)]
    return words


def changed(
    encoder: Encoder,
    path: str | Path,
    patch: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    delta_of: str | Path | None = None,
    said_by: str | None = None,
) -> Encoder:
    """An encoder that differences were added to, with other patches and another normalization.

    Kernels are resampled by the pseudo-inverse of the resizing of patches (FlexiViT, arXiv
    2212.08013, section 3.4), as timm does: tokens of an enlarged patch stay what they were, as far
    as that is possible. The grid of positions stays the file's.

    Args:
        encoder: As it was found.
        path: Of the file, for errors.
        patch: Side in pixels; None leaves it.
        mean: RGB, of pixels from 0 to 1; None leaves it.
        std: Likewise.
        delta_of: The file that the encoder's tensors are differences to; None if they are whole.
        said_by: Who gives `mean` and `std`; by default the options of the command line.

    Raises:
        UserError: A number is out of its range, or `delta_of` is of another model.
    """
    if delta_of is not None:
        encoder = _added(encoder, path, delta_of)
    elif _is_difference(encoder):
        encoder = replace(encoder, refusal=_DIFFERENCE)
    if patch is not None:
        encoder = _with_patch(encoder, path, patch)
    if mean is not None or std is not None:
        encoder = _with_statistics(encoder, mean, std, said_by)
    return encoder


_DIFFERENCE = (
    'the weights of its norms are near 0, as in files of differences. Give the file that they add '
    'to with --delta-of.'
)
# A norm starts at 1; those of released ViTs have means far above this, their differences below.
_SMALL = 0.05


def _is_difference(encoder: Encoder) -> bool:
    norms = [v for k, v in encoder.state.items() if re.search(r'(^|\.)norm[12]?\.weight$', k)]
    return bool(norms) and all(float(norm.float().abs().mean()) < _SMALL for norm in norms)


def _added(encoder: Encoder, path: str | Path, delta_of: str | Path) -> Encoder:
    base = find_encoder(read_file(delta_of), delta_of, None)
    shapes = [{k: list(v.shape) for k, v in each.state.items()} for each in (encoder, base)]
    if shapes[0] != shapes[1]:
        pairs = sorted(shapes[0].keys() | shapes[1].keys())
        key = next(k for k in pairs if shapes[0].get(k) != shapes[1].get(k))
        raise UserError(
            f'{path}: differences to another model than --delta-of {delta_of}: {key} is '
            f'{shapes[0].get(key, "absent")} and {shapes[1].get(key, "absent")} there.'
        )
    state = {key: base.state[key] + value for key, value in encoder.state.items()}
    return replace(
        base, state=state, ignored=encoder.ignored, family=f'{encoder.family} on {base.family}'
    )


def _with_patch(encoder: Encoder, path: str | Path, patch: int) -> Encoder:
    if patch < 1:
        raise UserError(f'--patch {patch}: give the side of a patch in pixels, 1 or more.')
    kernel = encoder.state[_KERNEL]
    old = kernel.shape[-1]
    if kernel.ndim != 4 or encoder.refusal is not None or tuple(kernel.shape[-2:]) == (patch,) * 2:
        return encoder  # what cannot be loaded is refused for its own reason
    if not kernel.isfinite().all():
        raise UserError(
            f'{path}: {_KERNEL} holds NaN or infinite values: the run that wrote it had diverged. '
            'Use an earlier checkpoint.'
        )
    # bfloat16 has no pseudo-inverse; timm computes in fp32
    kernel = resample_patch_embed(kernel.float(), [patch, patch]).to(kernel.dtype)
    built = {**encoder.built, 'patch_size': patch}
    if 'img_size' in built:
        built['img_size'] = _scaled(built['img_size'], patch, old)
    arch = encoder.arch
    if isinstance(arch, Mapping):
        arch = {**arch, 'patch_size': patch}
        if 'img_size' in arch:
            arch['img_size'] = _scaled(arch['img_size'], patch, old)
    return replace(
        encoder,
        state={**encoder.state, _KERNEL: kernel},
        built=built,
        # timm's names say the size of patches; the dimensions say the rest
        arch=None if isinstance(arch, str) else arch,
    )


def _scaled(size: int | Sequence[int], patch: int, old: int) -> int | tuple[int, ...]:
    """The size of images with as many patches of another side."""
    if isinstance(size, int):
        return math.ceil(size / old) * patch
    return tuple(math.ceil(side / old) * patch for side in size)


def _with_statistics(
    encoder: Encoder,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    said_by: str | None,
) -> Encoder:
    for name, values in (('mean', mean), ('std', std)):
        if values is None:
            continue
        given = f'--{name} {" ".join(f"{value:g}" for value in values)}'
        if len(values) != 3 or not all(0 <= value <= 1 for value in values):
            raise UserError(
                f'{given}: give three numbers from 0 to 1, of red, green and blue; those of pixels '
                'from 0 to 255 divided by 255.'
            )
        if name == 'std' and min(values) == 0:
            raise UserError(f'{given}: images cannot be divided by a deviation of 0.')
    own: Statistics = encoder.statistics or (IMAGENET_MEAN, IMAGENET_STD)
    options = [f'--{name}' for name, v in (('mean', mean), ('std', std)) if v is not None]
    said = said_by or ' and '.join(options)
    if mean is None or std is None:
        said += f', the other of {encoder.normalized_by or "ImageNet, since nobody says"}'
    red, green, blue = own[0] if mean is None else mean
    first, second, third = own[1] if std is None else std
    return replace(
        encoder,
        statistics=((red, green, blue), (first, second, third)),
        normalized_by=said,
    )
