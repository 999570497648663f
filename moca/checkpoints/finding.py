"""Finding the ViTs of a checkpoint: by their tensors, under any prefix and wrapper."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moca.checkpoints.architecture import complete
from moca.checkpoints.containers import CONFIG
from moca.checkpoints.encoder import Encoder
from moca.checkpoints.families import FAMILIES, PLAIN, TRUNK, Family, tensors
from moca.checkpoints.names import NAMINGS, Naming
from moca.checkpoints.names.trunk import StateDict, Statistics
from moca.checkpoints.noted import noted_settings
from moca.checkpoints.reading import exported_notes, noted_arch
from moca.checkpoints.refusals import acting_strangers, other_network
from moca.checkpoints.soundness import check_kernel, malformed, unsound
from moca.errors import UserError

_TEACHER = re.compile(r'teacher|momentum|ema|target|key_encoder', re.IGNORECASE)
_STUDENT = re.compile(r'student|online|query_encoder', re.IGNORECASE)
# What DINOv2's and DINOv3's own training, and others that have it from them, save beside encoders.
_HEADS_OF_TRAINING = re.compile(r'(dino|ibot)_head\.')
# A file's shapes do not tell the number of heads. All known families have timm's number but for
# MoCo-v3, whose ViT-S has 12 of 32 channels (its released code).
_OTHER_HEADS = {('MoCo-v3', 384): 12}


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
    if fault := malformed(trunk.state):
        raise UserError(f'{path}: {fault}')
    name = trunk.family or (family.name if family else f'ViT under {candidate.label}')
    notes, arch = exported_notes(content), noted_arch(content)
    complete(trunk, arch, _OTHER_HEADS.get((notes.get('family', name), width)))
    if 'sat493m' in Path(path).name.lower():
        trunk.statistics = SAT
    given = config if isinstance(config, Mapping) else {}
    trained = bool(notes) or any(_HEADS_OF_TRAINING.search(key) for key in beside)
    # a file with the name that only our backbone has says by itself what it is of
    ours = arch is not None or 'rope.periods' in inside
    refusal = refusal or unsound(trunk, given, ours, Path(path).name, trained)
    statistics, said = trunk.statistics, 'its own config' if config else name
    if statistics is None and family is not None and family.statistics is not None:
        statistics = family.statistics
    usual = None if family is None else family.interpolation
    noted = noted_settings(content, trunk.state['patch_embed.proj.weight'].shape[-1])
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
        interpolation=noted.interpolation or trunk.interpolation or usual,
        grid=_grid_of(noted.grid, trunk.state),
        refusal=refusal,
        place=(candidate.entry, candidate.prefix),
    )


def _grid_of(noted: tuple[int, int] | None, state: StateDict) -> tuple[int, int] | None:
    """The grid that a file notes, if its positions are as many, with or without prefix tokens."""
    if noted is None or 'pos_embed' not in state:
        return None
    registers = state['reg_token'].shape[1] if 'reg_token' in state else 0
    prefix = state['pos_embed'].shape[1] - noted[0] * noted[1]
    return noted if 0 <= prefix <= 1 + registers else None


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
