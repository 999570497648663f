"""Where a checkpoint keeps its ViTs: found by their tensors, under any prefix and wrapper."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from moca.backbone.arch import ArchSpec, build_vit, vit_dimensions
from moca.backbone.windows import REL_POS
from moca.checkpoints.architecture import complete
from moca.checkpoints.containers import CONFIG
from moca.checkpoints.names import NAMINGS, Naming
from moca.checkpoints.names.trunk import IMAGENET, StateDict, Statistics
from moca.checkpoints.noted import noted_settings
from moca.checkpoints.reading import exported_notes, noted_arch
from moca.checkpoints.refusals import acting_strangers, other_network
from moca.checkpoints.soundness import check_kernel, unsound
from moca.errors import UserError

# Wrappers that may stand anywhere in a key: DDP, compile, FSDP, activation checkpointing.
_WRAPPERS = re.compile(
    r'(?:^|(?<=\.))(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|'
    r'_forward_module)\.'
)
# The first component of the keys that belong to a ViT trunk.
TRUNK = (
    *('cls_token', 'pos_embed', 'reg_token', 'patch_embed', 'norm_pre', 'blocks', 'norm', 'rope'),
)


@dataclass(frozen=True)
class Family:
    """Names where a family of checkpoints keeps its encoders.

    Attributes:
        name: What to call it in logs.
        branches: Branch to (entry of the file, key prefix); the first one present is the default.
        marker: A key of the entry that only this family has, or ''.
        needs: How many of the branches must be there.
        statistics: Whether its inputs are normalized with ImageNet's mean and deviation.
    """

    name: str
    branches: Mapping[str, tuple[str, str]]
    marker: str = ''
    needs: int = 1
    statistics: Statistics | None = IMAGENET


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
    Family(
        'DINOv2 or DINOv3, in training',
        {'teacher': ('model', 'teacher.backbone.'), 'student': ('model', 'student.backbone.')},
    ),
    Family(
        'solo-learn',
        {'student': ('state_dict', 'backbone.'), 'teacher': ('state_dict', 'momentum_backbone.')},
        needs=2,
    ),
    Family(
        'MSN or I-JEPA', {'teacher': ('target_encoder', ''), 'student': ('encoder', '')}, needs=2
    ),
    Family('downstream run', {'backbone': ('state_dict', 'backbone.')}),
    Family('MAE', {'encoder': ('model', '')}, marker='decoder_embed.weight'),
    Family('iBOT', {'encoder': ('state_dict', '')}, marker='masked_embed'),
    Family(PLAIN, {'ema': ('state_dict_ema', ''), 'raw': ('state_dict', '')}, statistics=None),
    Family(PLAIN, {'ema': ('model_ema', ''), 'raw': ('model', '')}, statistics=None),
    Family(PLAIN, {'encoder': ('', '')}, statistics=None),
    Family(PLAIN, {'encoder': ('teacher', '')}, statistics=None),
)

# What a file of this suite's own runs is normalized with is ImageNet's by default.
_TEACHER = re.compile(r'teacher|momentum|ema|target|key_encoder', re.IGNORECASE)
_STUDENT = re.compile(r'student|online|query_encoder', re.IGNORECASE)


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
    refusal: str | None = None
    place: tuple[str, str] = ('', '')


@dataclass(frozen=True)
class _Candidate:
    """A ViT in a file: the entry, the prefix of its keys, and how they are named."""

    entry: str
    prefix: str
    naming: Naming

    @property
    def label(self) -> str:
        return '.'.join(part for part in (self.entry, self.prefix.rstrip('.')) if part) or 'root'


def find_encoder(
    content: Mapping[str, Any], path: str | Path, branch: str | None, prefix: str | None = None
) -> Encoder:
    """Find the ViT in what :func:`moca.checkpoints.reading.read_file` returned.

    Args:
        content: The file's dict.
        path: Named in errors.
        branch: ``teacher`` or ``student``, ``ema`` or ``raw``; None takes the family's default,
            which is the one its authors evaluate. A file with a single encoder has no branches to
            choose from.
        prefix: What stands before the encoder's keys, where a file holds several of no known
            family.

    Raises:
        UserError: No ViT in the file, several, or not the branch asked for; or what acts on its
            tokens is not understood.
    """
    entries = {'': content, **{k: v for k, v in content.items() if isinstance(v, Mapping)}}
    states = {name: tensors(entry, path) for name, entry in entries.items()}
    candidates = _candidates(states)
    if not candidates:
        raise _no_vit(states, path)
    if prefix is not None:
        chosen = [c for c in candidates if prefix.rstrip('.') in (c.label, c.prefix.rstrip('.'))]
        if len(chosen) != 1:
            raise UserError(
                f'{path}: --prefix {prefix}: no single encoder is called so. There are: '
                f'{", ".join(c.label for c in candidates)}.'
            )
        return _read(chosen[0], None, 'encoder', ('encoder',), states, content, path)
    for family in FAMILIES:
        found = _of_family(family, candidates, states, content)
        if len(found) < family.needs or not found:
            continue
        single = len(found) == 1 and not set(found) & {'teacher', 'student'}
        name = next(iter(found)) if branch is None or single else branch
        if name not in found:
            raise UserError(
                f'{path}: {family.name} without branch {branch!r}; it has: {", ".join(found)}. '
                f'Choose --branch {next(iter(found))}, or give no branch.'
            )
        return _read(found[name], family, name, tuple(found), states, content, path)
    return _of_no_family(candidates, states, content, path, branch)


def _candidates(states: Mapping[str, StateDict]) -> list[_Candidate]:
    found: dict[tuple[str, str], _Candidate] = {}
    for entry, state in states.items():
        for naming in NAMINGS:
            for key in state:
                if not key.endswith(naming.anchor):
                    continue
                prefix = key.removesuffix(naming.anchor)
                clean = not prefix or prefix.endswith('.')
                blocks = any(
                    k.startswith(prefix) and re.search(r'(blocks|layers?|resblocks)\.\d', k)
                    for k in state
                )
                if clean and blocks and state[key].ndim in (2, 4):
                    found.setdefault((entry, prefix), _Candidate(entry, prefix, naming))
    return list(found.values())


def _of_family(
    family: Family,
    candidates: list[_Candidate],
    states: Mapping[str, StateDict],
    content: Mapping[str, Any],
) -> dict[str, _Candidate]:
    by_place = {(c.entry, c.prefix): c for c in candidates}
    found = {
        name: by_place[place]
        for name, place in family.branches.items()
        if place in by_place and (not family.marker or family.marker in states[place[0]])
    }
    if family.name == 'downstream run' and 'meta' not in content:
        return {}  # mmengine's and our runs say what they are
    if family.name == 'MOCA' and len(found) == 1 and 'args' not in content:
        return {}  # SimMIM and CAE have an encoder as well
    if family.name == PLAIN and len(found) == 1:  # raw or averaged only where there are both
        return {'encoder': next(iter(found.values()))}
    return found


def _of_no_family(
    candidates: list[_Candidate],
    states: Mapping[str, StateDict],
    content: Mapping[str, Any],
    path: str | Path,
    branch: str | None,
) -> Encoder:
    """One that is alone, or the branch that a prefix names."""
    named: dict[str, list[_Candidate]] = {}
    for candidate in candidates:
        name = 'encoder'
        if _TEACHER.search(candidate.label):
            name = 'teacher'
        elif _STUDENT.search(candidate.label):
            name = 'student'
        named.setdefault(name, []).append(candidate)
    if len(candidates) == 1:
        name = next(iter(named))
        return _read(candidates[0], None, name, (name,), states, content, path)
    chosen = named.get(branch or '', [])
    if len(chosen) == 1 and branch is not None:
        return _read(chosen[0], None, branch, tuple(named), states, content, path)
    raise UserError(
        f'{path}: {len(candidates)} ViTs in it: {", ".join(c.label for c in candidates)}. Choose '
        'one with --prefix.'
    )


def _read(
    candidate: _Candidate,
    family: Family | None,
    branch: str,
    branches: tuple[str, ...],
    states: Mapping[str, StateDict],
    content: Mapping[str, Any],
    path: str | Path,
) -> Encoder:
    state = states[candidate.entry]
    inside = {
        key.removeprefix(candidate.prefix): value
        for key, value in state.items()
        if key.startswith(candidate.prefix)
    }
    beside = [key for key in state if not key.startswith(candidate.prefix)]
    if 'norm.weight' not in inside and 'head.norm.weight' in beside:
        # of our own fine-tuned classifier, whose head norms the pooled vector
        for part in ('weight', 'bias'):
            inside[f'fc_norm.{part}'] = state[f'head.norm.{part}']
            beside.remove(f'head.norm.{part}')
    config = content.get(CONFIG) or {}
    refusal = other_network(inside)
    try:
        check_kernel(inside, candidate.naming.anchor)
        trunk = candidate.naming.convert(inside, config if isinstance(config, Mapping) else {})
    except UserError as error:
        raise UserError(f'{path}: {error}') from None
    strangers = [key for key in trunk.state if key.split('.')[0] not in TRUNK]
    width = trunk.state['patch_embed.proj.weight'].shape[0]
    refusal = refusal or acting_strangers({key: trunk.state[key] for key in strangers}, width)
    for key in strangers:
        del trunk.state[key]
    name = trunk.family or (family.name if family else f'ViT under {candidate.label}')
    notes, arch = exported_notes(content), noted_arch(content)
    complete(trunk, arch, _OTHER_HEADS.get((notes.get('family', name), width)))
    if 'sat493m' in Path(path).name.lower():
        trunk.statistics = SAT
    given = config if isinstance(config, Mapping) else {}
    refusal = refusal or unsound(trunk, given, arch is not None, Path(path).name)
    statistics, said = trunk.statistics, 'its own config' if config else name
    if statistics is None and family is not None and family.statistics is not None:
        statistics = family.statistics
    noted = noted_settings(content)
    if noted.statistics is not None:
        statistics, said = noted.statistics, noted.said_by
    if noted.norm_eps is not None:
        trunk.settings['arch']['norm_eps'] = noted.norm_eps
    return Encoder(
        family=name,
        branch=branch,
        branches=branches,
        state=trunk.state,
        ignored=tuple([*trunk.left, *strangers, *beside]),
        notes=notes,
        arch=arch,
        built=trunk.settings['arch'],
        heads_guessed=bool(trunk.settings.get('heads_guessed')),
        statistics=statistics,
        normalized_by=None if statistics is None else said,
        interpolation=noted.interpolation or trunk.interpolation,
        refusal=refusal,
        place=(candidate.entry, candidate.prefix),
    )


SAT: Statistics = ((0.430, 0.411, 0.296), (0.213, 0.156, 0.143))
"""Of DINOv3's satellite images (SAT-493M), which only the name of a file tells."""


def _no_vit(states: Mapping[str, StateDict], path: str | Path) -> UserError:
    for state in states.values():
        if what := other_network(state):
            return UserError(f'{path}: {what}')
    keys = [f'{name}.{key}'.lstrip('.') for name, state in states.items() for key in state]
    known = ', '.join(naming.anchor for naming in NAMINGS)
    return UserError(
        f'{path}: no plain ViT in it: no tensor is called {known}, under any prefix, with blocks '
        'beside it. '
        + (f'Its first keys: {", ".join(keys[:5])}.' if keys else 'It holds no tensors.')
    )


def tensors(entry: Mapping[str, Any], path: str | Path = 'the file') -> StateDict:
    """The tensors of a file or of an entry of it, without the names of wrappers.

    Raises:
        UserError: two of them are then called the same and differ.
    """
    found: StateDict = {}
    keys: dict[str, str] = {}
    for key, value in entry.items():
        if not isinstance(value, Tensor):
            continue
        name = _WRAPPERS.sub('', str(key))
        if name in found and not _equal(found[name], value):
            raise UserError(
                f'{path}: {keys[name]} and {key} are one tensor under two names, with different '
                'values. Remove the wrong one from the file.'
            )
        found[name], keys[name] = value, str(key)
    return found


def _equal(one: Tensor, two: Tensor) -> bool:
    return one.shape == two.shape and one.dtype == two.dtype and torch.equal(one, two)


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
    """A copy of the trunk, under timm's names."""
    return dict(encoder.state)


def known_heads(encoder: Encoder) -> int | None:
    """The number of heads, where the file's run or its family tells it; else None."""
    return None if encoder.heads_guessed else int(encoder.built['num_heads'])


def interpolation_of(encoder: Encoder, path: str | Path) -> str:
    """How the code of an encoder's family resamples its position embedding.

    See `moca.backbone.positions.INTERPOLATIONS`. Where the names do not tell, a bare trunk is taken
    for timm's own if it is a safetensors file or has a classifier, else for one of MAE, DINO or
    iBOT.
    """
    if encoder.interpolation is not None:
        return encoder.interpolation
    family = encoder.notes.get('family', encoder.family)
    classifier = any(key.startswith('head.') for key in encoder.ignored)
    if family == PLAIN and (classifier or Path(path).suffix == '.safetensors'):
        return 'bicubic-antialias'
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


def _on_paper(name: str) -> VisionTransformer | None:
    try:
        with torch.device('meta'):
            return build_vit(name)
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
