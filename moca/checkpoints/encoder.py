"""An encoder as it was found in a file: its architecture, its heads, how its positions go on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer

from moca.backbone.arch import ArchSpec, build_vit, is_arch, vit_dimensions
from moca.backbone.windows import REL_POS
from moca.checkpoints.families import OFFSET, PLAIN
from moca.checkpoints.names.trunk import StateDict, Statistics
from moca.errors import UserError


@dataclass(frozen=True)
class Encoder:
    """One encoder found in a checkpoint file.

    Attributes:
        family: Name of the family.
        branch: Which of its branches this is.
        branches: All that the file holds.
        state: Trunk tensors under the names of `PlainViT`.
        ignored: Keys that are no part of the trunk: heads, decoders, other encoders.
        notes: What :mod:`moca.checkpoints.export` wrote into the file about its origin.
        arch: The architecture of the run that wrote the file, if that is said.
        built: Arguments of the architecture, from shapes, names and the file's config.
        heads_guessed: Whether nothing but the width tells the number of heads.
        statistics: Mean and deviation of its inputs, None if nobody says.
        normalized_by: Who says so.
        interpolation: How its positions are resampled, None if unknown.
        grid: Rows and columns of its positions, where they are known not to be square.
        refusal: Why it cannot be loaded, None if it can.
        place: The file's entry that it is in, '' for the file itself, and the prefix of its keys.
    """

    family: str
    branch: str
    branches: tuple[str, ...]
    state: StateDict
    ignored: tuple[str, ...]
    notes: Mapping[str, str] = field(default_factory=dict)
    arch: ArchSpec | None = None
    built: Mapping[str, Any] = field(default_factory=dict)
    heads_guessed: bool = False
    statistics: Statistics | None = None
    normalized_by: str | None = None
    interpolation: str | None = None
    grid: tuple[int, int] | None = None
    refusal: str | None = None
    place: tuple[str, str] = ('', '')


# What timm calls the plain ViTs of published checkpoints, by width.
_SIZES = {
    **{192: 'tiny', 384: 'small', 768: 'base', 1024: 'large', 1280: 'huge'},
    **{1408: 'giant', 1536: 'giant'},  # timm's own and DINOv2's
}
# Some sizes and patches do not go with some of these: no names, and passed over.
_FORMS = (
    'vit_{size}_patch{patch}',
    'vit_{size}_patch{patch}_dinov2',
    'vit_{size}_patch{patch}_reg4_dinov2',
    'deit3_{size}_patch{patch}',
)


def timm_names(encoder: Encoder) -> StateDict:
    """A copy of the trunk, under timm's names."""
    return dict(encoder.state)


def known_heads(encoder: Encoder) -> int | None:
    """The number of heads, where the file's run or its family tells it; else None."""
    return None if encoder.heads_guessed else int(encoder.built['num_heads'])


def interpolation_of(encoder: Encoder, path: str | Path) -> str:
    """How the code of an encoder's family resamples its position embedding.

    See `moca.backbone.positions.INTERPOLATIONS`. Where the names do not tell, a bare trunk is taken
    for timm's own if it is a safetensors file or has a classifier; else by its entry of the file:
    MAE publishes its encoders under ``model``, DINO at the root and iBOT under ``state_dict``.
    """
    if encoder.interpolation is not None:
        return encoder.interpolation
    family = encoder.notes.get('family', encoder.family)
    classifier = any(key.startswith('head.') for key in encoder.ignored)
    if family == PLAIN and (classifier or Path(path).suffix == '.safetensors'):
        return 'bicubic-antialias'
    if family == PLAIN and encoder.place in (('', ''), ('state_dict', '')) and not encoder.notes:
        return OFFSET
    return 'bicubic'


def fitting_archs(encoder: Encoder) -> list[str]:
    """Names of architectures that an encoder's tensors fit, for ``--arch``; may be none."""
    if encoder.refusal is not None:
        return []
    state = timm_names(encoder)
    shapes = {k: v.shape for k, v in state.items() if k != 'pos_embed' and not k.endswith(REL_POS)}
    width, _, _, patch = state['patch_embed.proj.weight'].shape
    heads = known_heads(encoder)
    found = []
    for form in _FORMS if width in _SIZES else ():
        name = form.format(size=_SIZES[width], patch=patch)
        model = _on_paper(name)
        if model is None:
            continue
        theirs = {k: v.shape for k, v in model.state_dict().items() if k != 'pos_embed'}
        if theirs == shapes and _rows_fit(model, state):
            other = heads is not None and heads != model.blocks[0].attn.num_heads
            found.append(f'{name}_heads{heads}' if other else name)
    return found


def _rows_fit(model: VisionTransformer, state: StateDict) -> bool:
    """Whether the class token has a position in both or in neither, if a square grid tells it."""
    if 'pos_embed' not in state:
        return True
    rows = state['pos_embed'].shape[1]
    left = rows - model.num_prefix_tokens
    ours, other = (rows, left) if model.no_embed_class else (left, rows)
    return math.isqrt(ours) ** 2 == ours or math.isqrt(other) ** 2 != other


@cache  # a file is asked for its architecture several times at the start of a run
def _on_paper(name: str) -> VisionTransformer | None:
    if not is_arch(name):
        return None
    try:
        with torch.device('meta'):
            return build_vit(name, weight_init='skip')
    except UserError:
        return None


def built_arch(encoder: Encoder) -> ArchSpec | None:
    """The architecture of an encoder: its run's, else from names and shapes.

    Returns:
        A name, or a dict of dimensions; None if nothing tells the number of heads.
    """
    width = encoder.state['patch_embed.proj.weight'].shape[0]
    if encoder.arch is not None and vit_dimensions(encoder.arch).embed_dim == width:
        return encoder.arch
    if encoder.heads_guessed and width % 64 and width not in _SIZES:
        return None
    names = fitting_archs(encoder)
    if len(names) == 1 and not _TOLD.intersection(encoder.built):
        return names[0]
    return dict(encoder.built)


# Settings that timm's models of the names above do not have.
_TOLD = frozenset(('act_layer', 'rope', 'norm', 'mlp'))
