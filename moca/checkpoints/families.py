"""Where families of checkpoints keep their encoders, and the wrappers that keys stand in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from moca.checkpoints.names.trunk import IMAGENET, StateDict, Statistics
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
        interpolation: How its code resamples positions, where that is not `bicubic`.
    """

    name: str
    branches: Mapping[str, tuple[str, str]]
    marker: str = ''
    needs: int = 1
    statistics: Statistics | None = IMAGENET
    interpolation: str | None = None


# Of DINO and iBOT, as of DINOv2, which has it from them: vision_transformer.py of facebookresearch/
# dino and of bytedance/ibot, interpolate_pos_encoding.
OFFSET = 'bicubic-offset'

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
        'DINO or iBOT',
        {'teacher': ('teacher', 'backbone.'), 'student': ('student', 'backbone.')},
        interpolation=OFFSET,
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
    Family('iBOT', {'encoder': ('state_dict', '')}, marker='masked_embed', interpolation=OFFSET),
    Family(PLAIN, {'ema': ('state_dict_ema', ''), 'raw': ('state_dict', '')}, statistics=None),
    Family(PLAIN, {'ema': ('model_ema', ''), 'raw': ('model', '')}, statistics=None),
    Family(PLAIN, {'encoder': ('', '')}, statistics=None),
    Family(PLAIN, {'encoder': ('teacher', '')}, statistics=None),
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
