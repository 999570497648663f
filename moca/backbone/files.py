"""Checkpoint files: safe reading, and where each published family keeps its ViT."""

from __future__ import annotations

import argparse
import collections
import pickle
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PosixPath
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from moca.errors import UserError

StateDict = dict[str, Tensor]


def _statistic(owner: Any, name: str) -> Any:
    """Stand in for ``getattr`` while unpickling: HistoryBuffer pickles its methods through it.

    The real one would let a file reach any function through the classes allowed.
    """
    if owner is not HistoryBuffer or name not in ('mean', 'max', 'min', 'current'):
        raise pickle.UnpicklingError(f'GLOBAL builtins.getattr of {name!r}')
    return getattr(owner, name)


# Classes that the published files hold besides tensors: MOCA, DINO and iBOT pickle their
# argparse.Namespace, mmengine its log history.
_ALLOWED: list[Any] = [
    argparse.Namespace,
    collections.defaultdict,
    HistoryBuffer,
    PosixPath,
    np.ndarray,
    np.dtype,
    # numpy's private makers of arrays and scalars, wherever this version keeps them
    np.zeros(0).__reduce__()[0],
    np.float64().__reduce__()[0],
    *(type(np.dtype(kind)) for kind in ('float64', 'float32', 'int64', 'int32')),
    (_statistic, 'builtins.getattr'),
]

# What reading a damaged file raises: torch's unpickler trips over whatever the damage left.
_BROKEN = (
    SafetensorError,
    struct.error,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)

# Wrappers that prefix every key.
_WRAPPERS = ('module.', '_orig_mod.')

# The first component of the keys that belong to a ViT trunk.
TRUNK = ('cls_token', 'pos_embed', 'reg_token', 'patch_embed', 'norm_pre', 'blocks', 'norm')
_TRUNK_SYNONYMS = ('register_tokens', 'fc_norm')


@dataclass(frozen=True)
class Family:
    """Where a family of checkpoints keeps its encoders.

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
_PLAIN = 'plain ViT (timm names)'

# Order matters: the first family whose keys are found wins. Prefixes are read after wrappers
# such as DDP's `module.` have been stripped.
FAMILIES = (
    Family('MOCA', {'teacher': ('model', 'encoder_teacher.'), 'student': ('model', 'encoder.')}),
    Family(
        'moca run', {'teacher': ('state_dict', 'teacher.'), 'student': ('state_dict', 'student.')}
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
    Family(_PLAIN, {'encoder': ('', '')}),
    Family(_PLAIN, {'encoder': ('model', '')}),
    Family(_PLAIN, {'encoder': ('state_dict', '')}),
    Family(_PLAIN, {'encoder': ('teacher', '')}),
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
    """

    family: str
    branch: str
    branches: tuple[str, ...]
    state: StateDict
    ignored: tuple[str, ...]


def read_file(path: str | Path, trust: bool = False) -> dict[str, Any]:
    """Read a ``.pth`` or ``.safetensors`` file without running code from it.

    Args:
        path: The file.
        trust: Read it with plain pickle, which runs whatever code the file contains.

    Raises:
        UserError: No such file, a broken one, or one that holds more than tensors and the
            few harmless classes of the published checkpoints.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f'{path}: no such checkpoint file. Check the path given as checkpoint.')
    try:
        if path.suffix == '.safetensors':
            content: Any = load_file(path)
        else:
            with torch.serialization.safe_globals(_ALLOWED):
                content = torch.load(path, map_location='cpu', weights_only=not trust)
    except pickle.UnpicklingError as error:
        if 'Unsupported' in str(error) or 'GLOBAL' in str(error):
            raise UserError(
                f'{path}: refused, because reading it would run code ({_culprit(error)}). '
                'If you trust its source, say trust=True (--trust).'
            ) from error
        raise UserError(f'{path}: not a readable checkpoint ({_first_line(error)}).') from error
    except _BROKEN as error:
        raise UserError(
            f'{path}: truncated or not a checkpoint ({_first_line(error)}). Fetch it again.'
        ) from error
    if not isinstance(content, dict):
        raise UserError(f'{path}: holds a {type(content).__name__}, not a dict of tensors.')
    return content


def find_encoder(content: Mapping[str, Any], path: str | Path, branch: str | None) -> Encoder:
    """Find the ViT in what :func:`read_file` returned.

    Args:
        content: The file's dict.
        path: Named in errors.
        branch: ``teacher`` or ``student``; None takes the family's default, which is the one its
            authors evaluate. A file with a single encoder has no branches to choose from.

    Raises:
        UserError: No ViT in the file, or not the branch asked for.
    """
    entries = {'': content, **{k: v for k, v in content.items() if isinstance(v, Mapping)}}
    states = {name: _tensors(entry) for name, entry in entries.items()}
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
                f'{path}: a {family.name} checkpoint without branch {branch!r}; '
                f'it has: {", ".join(found)}.'
            )
        entry, prefix = found[chosen]
        inside = {
            key.removeprefix(prefix): value
            for key, value in states[entry].items()
            if key.startswith(prefix)
        }
        trunk = {k: v for k, v in inside.items() if k.split('.')[0] in TRUNK + _TRUNK_SYNONYMS}
        ignored = tuple(key for key in inside if key not in trunk)
        return Encoder(family.name, chosen, tuple(found), trunk, ignored)
    keys = [f'{name}.{key}'.lstrip('.') for name, state in states.items() for key in state]
    raise UserError(
        f'{path}: no plain ViT in it: no key ends in patch_embed.proj.weight under a prefix of '
        f'a known family ({", ".join(dict.fromkeys(f.name for f in FAMILIES))}). '
        + (f'Its first keys: {", ".join(keys[:5])}.' if keys else 'It holds no tensors.')
    )


def _tensors(entry: Mapping[str, Any]) -> StateDict:
    state: StateDict = {}
    for key, value in entry.items():
        if isinstance(value, Tensor):
            name = str(key)
            while name.startswith(_WRAPPERS):
                name = name.split('.', 1)[1]
            state[name] = value
    return state


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:300]


def _culprit(error: Exception) -> str:
    """The function or class that the file asks for, out of torch's page of advice."""
    named = re.search(r'GLOBAL ([\w.]+)', str(error))
    return named[1] if named else _first_line(error)
