"""The parts that all namings share: what a reader returns, renaming, and joined projections."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

StateDict = dict[str, Tensor]

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
UNCHANGED = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
"""Means and deviations, RGB, of pixels from 0 to 1; `HALF` is that of Google's ViTs, `UNCHANGED` of
TIPS."""

Statistics = tuple[tuple[float, float, float], tuple[float, float, float]]


@dataclass
class Trunk:
    """A ViT under the names of `PlainViT`.

    Attributes:
        state: its tensors.
        left: what was beside them under the same prefix and is no part of the encoder.
        settings: arguments of the architecture that no shape tells, such as ``norm_eps``.
        family: whose it is; empty if the naming does not tell.
        statistics: mean and deviation of its inputs, None if unknown.
        interpolation: how its positions are resampled; None if unknown.
    """

    state: StateDict
    left: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    family: str = ''
    statistics: Statistics | None = None
    interpolation: str | None = None


@dataclass(frozen=True)
class Naming:
    """How the tensors of some families are named.

    Attributes:
        anchor: the tensor that every ViT of this naming has, behind any prefix.
        convert: makes a trunk of the tensors under one prefix and of the file's own config, which
            is empty if there is none.
    """

    anchor: str
    convert: Callable[[StateDict, Mapping[str, Any]], Trunk]


def renamed(
    state: StateDict, table: Iterable[tuple[str, str]], left: str
) -> tuple[StateDict, list[str]]:
    """Rename tensors.

    Args:
        state: by the names of a family.
        table: patterns and what their matches become, tried in order, all of them.
        left: pattern of what is no part of the encoder.

    Returns:
        The renamed ones, and the names of what was left out. A name that no pattern knows stays as
        it is, so that it cannot be overlooked.
    """
    out, ignored = {}, []
    for key, value in state.items():
        if re.match(left, key):
            ignored.append(key)
            continue
        name = key
        for pattern, replacement in table:
            name = re.sub(pattern, replacement, name)
        out[name] = value
    return out, ignored


def join_qkv(state: StateDict, biases: str | None = None) -> StateDict:
    """Join ``attn.q``, ``attn.k`` and ``attn.v``, each weight and bias, to timm's ``attn.qkv``.

    A bias that keys lack is zero there, as several families have none. Parts of which one is
    missing stay apart, so that no backbone takes them.

    Args:
        state: by names of which some may end like those above.
        biases: which of q, k and v have a bias; None for all, none, or all but keys.
    """
    known = ('', 'qv', 'qkv') if biases is None else (biases,)
    found: dict[str, dict[str, Tensor]] = {}
    out: StateDict = {}
    for key, value in state.items():
        match = re.fullmatch(r'(.*\.attn)\.([qkv])\.(weight|bias)', key)
        if match:
            found.setdefault(match[1], {})[match[2] + match[3][0]] = value
        else:
            out[key] = value
    lettered = {block: _with_bias(parts) for block, parts in found.items()}
    usual = max(set(lettered.values()), key=list(lettered.values()).count, default='')
    for block, parts in found.items():
        whole = {'qw', 'kw', 'vw'} <= parts.keys() and lettered[block] == usual
        if not whole or usual not in known:
            names = {'w': 'weight', 'b': 'bias'}
            out |= {f'{block}.{part[0]}.{names[part[1]]}': v for part, v in parts.items()}
            continue
        out[f'{block}.qkv.weight'] = torch.cat([parts[f'{letter}w'] for letter in 'qkv'])
        if usual:
            like = next(value for part, value in parts.items() if part.endswith('b'))
            out[f'{block}.qkv.bias'] = torch.cat(
                [parts.get(f'{letter}b', torch.zeros_like(like)) for letter in 'qkv']
            )
    return out


def _with_bias(parts: Mapping[str, Tensor]) -> str:
    return ''.join(letter for letter in 'qkv' if f'{letter}b' in parts)


def statistics_of(config: Mapping[str, Any]) -> Statistics | None:
    """Mean and deviation that a file's own config or preprocessor names, under any of its keys."""
    for node in (config, config.get('pretrained_cfg') or {}, config.get('preprocess_cfg') or {}):
        mean = node.get('image_mean', node.get('mean'))
        std = node.get('image_std', node.get('std'))
        if mean is not None and std is not None and len(mean) == len(std) == 3:
            a, b, c = (float(value) for value in mean)
            x, y, z = (float(value) for value in std)
            return (a, b, c), (x, y, z)
    return None


_ACTIVATIONS = {
    'gelu': 'gelu',
    'gelu_pytorch_tanh': 'gelu_tanh',
    'gelu_new': 'gelu_tanh',
    'quick_gelu': 'quick_gelu',
    'silu': 'silu',
    'relu': 'relu',
}


def activation(name: str | None) -> dict[str, Any]:
    """Settings of an activation by transformers' name; timm's GELU if there is none."""
    known = _ACTIVATIONS.get(name or 'gelu', name)
    return {} if known == 'gelu' else {'act_layer': known}
