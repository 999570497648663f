"""Where each published family of checkpoints keeps its ViT."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor

from moca.backbone.arch import ArchSpec, build_vit, vit_dimensions
from moca.backbone.windows import REL_POS
from moca.checkpoints.reading import exported_notes, noted_arch
from moca.errors import UserError

StateDict = dict[str, Tensor]

# Wrappers that prefix every key.
_WRAPPERS = ('module.', '_orig_mod.')

# The first component of the keys that belong to a ViT trunk.
TRUNK = ('cls_token', 'pos_embed', 'reg_token', 'patch_embed', 'norm_pre', 'blocks', 'norm')
_TRUNK_SYNONYMS = ('register_tokens', 'fc_norm')


@dataclass(frozen=True)
class Family:
    """Names where a family of checkpoints keeps its encoders.

    Attributes:
        name: What to call it in logs.
        branches: Branch to (entry of the file, key prefix); the first one present is the default.
        marker: A key that only this family has beside a bare trunk, or ''.
    """

    name: str
    branches: Mapping[str, tuple[str, str]]
    marker: str = ''


# A bare trunk does not tell whose it is: timm's own files, but also MAE's published encoders and
# DINO's or iBOT's backbones alone.
PLAIN = 'plain ViT (timm names)'

# Order matters: the first family whose keys are found wins. Prefixes are read after wrappers
# such as DDP's `module.` have been stripped.
FAMILIES = (
    Family('MOCA', {'teacher': ('model', 'encoder_teacher.'), 'student': ('model', 'encoder.')}),
    Family(
        'pre-training run',
        {'teacher': ('state_dict', 'teacher.'), 'student': ('state_dict', 'student.')},
    ),
    Family(
        'MoCo-v3',
        {
            'student': ('state_dict', 'base_encoder.'),
            'teacher': ('state_dict', 'momentum_encoder.'),
        },
    ),
    Family(
        'DINO or iBOT', {'teacher': ('teacher', 'backbone.'), 'student': ('student', 'backbone.')}
    ),
    Family('downstream run', {'backbone': ('state_dict', 'backbone.')}),
    Family('MAE', {'encoder': ('model', '')}, marker='decoder_embed.weight'),
    Family('iBOT', {'encoder': ('state_dict', '')}, marker='masked_embed'),
    Family('DINOv2', {'encoder': ('', '')}, marker='mask_token'),
    Family(PLAIN, {'encoder': ('', '')}),
    Family(PLAIN, {'encoder': ('model', '')}),
    Family(PLAIN, {'encoder': ('state_dict', '')}),
    Family(PLAIN, {'encoder': ('teacher', '')}),
)


@dataclass(frozen=True)
class Encoder:
    """One encoder found in a checkpoint file.

    Attributes:
        family: Name of the family.
        branch: Which of its branches this is.
        branches: All that the file holds.
        state: Trunk tensors under timm-like names.
        ignored: Keys of the same branch that are no part of a trunk (heads, decoders).
        notes: What :mod:`moca.checkpoints.export` wrote into the file about its origin.
        arch: The architecture of the run that wrote the file, if that is said.
    """

    family: str
    branch: str
    branches: tuple[str, ...]
    state: StateDict
    ignored: tuple[str, ...]
    notes: Mapping[str, str] = field(default_factory=dict)
    arch: ArchSpec | None = None


def find_encoder(content: Mapping[str, Any], path: str | Path, branch: str | None) -> Encoder:
    """Find the ViT in what :func:`moca.checkpoints.reading.read_file` returned.

    Args:
        content: The file's dict.
        path: Named in errors.
        branch: ``teacher`` or ``student``; None takes the family's default, which is the one its
            authors evaluate. A file with a single encoder has no branches to choose from.

    Raises:
        UserError: No ViT in the file, or not the branch asked for.
    """
    entries = {'': content, **{k: v for k, v in content.items() if isinstance(v, Mapping)}}
    states = {name: tensors(entry) for name, entry in entries.items()}
    for family in FAMILIES:
        found = {
            name: (entry, prefix)
            for name, (entry, prefix) in family.branches.items()
            if f'{prefix}patch_embed.proj.weight' in states.get(entry, {})
            and (not family.marker or family.marker in states[entry])
        }
        if not found:
            continue
        single = len(found) == 1 and not set(found) & {'teacher', 'student'}
        chosen = next(iter(found)) if branch is None or single else branch
        if chosen not in found:
            raise UserError(
                f'{path}: {family.name} without branch {branch!r}; it has: {", ".join(found)}. '
                f'Choose --branch {next(iter(found))}, or give no branch.'
            )
        entry, prefix = found[chosen]
        inside = {
            key.removeprefix(prefix): value
            for key, value in states[entry].items()
            if key.startswith(prefix)
        }
        trunk = {k: v for k, v in inside.items() if k.split('.')[0] in TRUNK + _TRUNK_SYNONYMS}
        ignored = tuple(key for key in inside if key not in trunk)
        notes, arch = exported_notes(content), noted_arch(content)
        return Encoder(family.name, chosen, tuple(found), trunk, ignored, notes, arch)
    keys = [f'{name}.{key}'.lstrip('.') for name, state in states.items() for key in state]
    raise UserError(
        f'{path}: no plain ViT in it: no key ends in patch_embed.proj.weight under a prefix of '
        f'a known family ({", ".join(dict.fromkeys(f.name for f in FAMILIES))}). '
        + (f'Its first keys: {", ".join(keys[:5])}.' if keys else 'It holds no tensors.')
    )


def tensors(entry: Mapping[str, Any]) -> StateDict:
    """The tensors of a file or of an entry of it, without the prefixes of wrappers."""
    state: StateDict = {}
    for key, value in entry.items():
        if isinstance(value, Tensor):
            name = str(key)
            while name.startswith(_WRAPPERS):
                name = name.split('.', 1)[1]
            state[name] = value
    return state


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
# A file's shapes do not tell the number of heads. All known families have timm's number but for
# MoCo-v3, whose ViT-S has 12 of 32 channels (its released code).
_OTHER_HEADS = {('MoCo-v3', 384): 12}


def timm_names(encoder: Encoder) -> StateDict:
    """The trunk under timm's names, whatever the family called them."""
    # timm's filter renames DINOv2's. It would resample to the model's grid as well; a model
    # without positions keeps it from that (positions are resampled in fit_state).
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


def known_heads(encoder: Encoder) -> int | None:
    """The number of heads, where the file's run or its family tells it; else None."""
    width = encoder.state['patch_embed.proj.weight'].shape[0]
    if encoder.arch is not None:
        said = vit_dimensions(encoder.arch)
        return said.num_heads if said.embed_dim == width else None
    return _OTHER_HEADS.get((encoder.notes.get('family', encoder.family), width))


def interpolation_of(encoder: Encoder, path: str | Path) -> str:
    """How the code of an encoder's family resamples its position embedding.

    See `moca.backbone.positions.INTERPOLATIONS`. Nothing in a file says so: DINOv2's two ways are
    told by the registers, and a bare trunk is taken for timm's own if it is a safetensors file or
    has a classifier, else for one of MAE, DINO or iBOT.
    """
    family = encoder.notes.get('family', encoder.family)
    if family == 'DINOv2':
        with_registers = {'register_tokens', 'reg_token'} & encoder.state.keys()
        return 'bicubic-antialias' if with_registers else 'bicubic-offset'
    classifier = any(key.startswith('head.') for key in encoder.ignored)
    if family == PLAIN and (classifier or Path(path).suffix == '.safetensors'):
        return 'bicubic-antialias'
    return 'bicubic'


def fitting_archs(encoder: Encoder) -> list[str]:
    """Names of architectures that an encoder's tensors fit, for ``--arch``; may be none."""
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
        if theirs == shapes:
            other = heads is not None and heads != model.blocks[0].attn.num_heads
            found.append(f'{name}_heads{heads}' if other else name)
    return found


def _on_paper(name: str) -> VisionTransformer | None:
    try:
        with torch.device('meta'):
            return build_vit(name)
    except UserError:
        return None
