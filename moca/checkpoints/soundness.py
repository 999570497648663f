"""Whether the tensors of an encoder are whole: what would load and still be another network."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import timm
import torch

from moca.checkpoints.names.original import ORIGINAL
from moca.checkpoints.names.trunk import StateDict, Trunk
from moca.errors import UserError

_AGAIN = 'Fetch the file again, or config.json with it.'


def unsound(
    trunk: Trunk, config: Mapping[str, Any], run: bool, name: str, trained: bool = False
) -> str | None:
    """Say what an encoder lacks or what its own config says otherwise; None if it is whole.

    Args:
        trunk: with the architecture that its shapes tell, see `architecture.complete`.
        config: what lies beside the file, as transformers or timm writes it; empty if nothing.
        run: whether a run of this suite says the architecture, which may then be without positions,
            or the tensors have names of this suite alone.
        name: of the file; published ones say their registers.
        trained: whether it lies beside the heads of a training run, whose registers are a choice,
            or is exported of one.
    """
    state = trunk.state
    return (
        _odd_tensor(state)
        or (None if run else _missing(trunk, config, name, trained))
        or _against_transformers(trunk, config)
        or _against_timm(state, config)
    )


_RANKS = {'pos_embed': 3, 'cls_token': 3, 'reg_token': 3, 'rope.periods': 1}
"""Dimensions of tensors that the architecture is told by."""


def malformed(state: StateDict) -> str | None:
    """Say which tensor of an encoder has no shape to tell an architecture by; None if none."""
    for key, value in state.items():
        shape = list(value.shape)
        if not value.numel():
            return f'{key} {shape} is empty. {_AGAIN}'
        wanted = _RANKS.get(key, value.ndim)
        if value.ndim != wanted:
            plain = (
                'SAM and kin have such: use weights of a plain ViT.'
                if key == 'pos_embed'
                else _AGAIN
            )
            return f'{key} is {shape}, not of {wanted} dimensions. {plain}'
    return None


def _odd_tensor(state: StateDict) -> str | None:
    for key, value in state.items():
        if not value.is_floating_point() or value.element_size() == 1 or value.is_quantized:
            kind = str(value.dtype).removeprefix('torch.')
            return (
                f'{key} is of type {kind}, quantized or no weights at all. Use the weights in '
                'float32, float16 or bfloat16.'
            )
    positions = state.get('pos_embed')
    if positions is not None and len(positions) != 1:  # of three dimensions, see `malformed`
        return (
            f'pos_embed is {list(positions.shape)}, not [1, tokens, channels], as in SAM and kin. '
            'Use weights of a plain ViT.'
        )
    return None


def _missing(trunk: Trunk, config: Mapping[str, Any], name: str, trained: bool) -> str | None:
    """A part that every ViT of the kind has; without it, the rest would load in full."""
    state, rope = trunk.state, trunk.settings.get('rope')
    if 'pos_embed' not in state and rope is None:
        return (
            'it has no positions, neither learned nor rotary ones, so that its features would be '
            'others. Fetch the file again, or take one that is not cut.'
        )
    before = trunk.family.startswith(('OpenCLIP', 'CLIP', 'Perception Encoder'))
    if before and 'norm_pre.weight' not in state:
        return (
            f'it has no norm before its blocks (norm_pre, ln_pre), which every {trunk.family} has. '
            f'{_AGAIN}'
        )
    bare = 'norm_pre.weight' in state or trunk.family.startswith('C-RADIO')
    if 'patch_embed.proj.bias' not in state and not bare:
        return f'patch_embed.proj has no bias, which every ViT of its kind has. {_AGAIN}'
    return _missing_tokens(trunk, config, name, trained) or _missing_in_blocks(trunk, config)


def _missing_tokens(
    trunk: Trunk, config: Mapping[str, Any], name: str, trained: bool
) -> str | None:
    state, rope = trunk.state, trunk.settings.get('rope')
    kind = None if rope is None else rope.get('kind', 'dinov3')
    if kind == 'dinov3' and 'cls_token' not in state:
        return f'it has no class token, which every ViT with its rotary positions has. {_AGAIN}'
    if kind == 'interleaved' and 'pos_embed' not in state:
        return f'it has no learned positions, which its family has beside rotary ones. {_AGAIN}'
    rows = state['pos_embed'].shape[1] if 'pos_embed' in state else 0
    if 'cls_token' not in state and rows > 1 and math.isqrt(rows - 1) ** 2 == rows - 1:
        return f'it has no class token, and {rows} positions, of which one is of it. {_AGAIN}'
    # of what is published all have them: DINOv3, EUPE, LingBot-Vision and CAPI
    said = trained or {'num_register_tokens', 'architecture'} & config.keys()
    registers = kind == 'learned' or (kind == 'dinov3' and not said)
    if (registers or re.search(r'_reg\d|dinov3_vit|tipsv2', name)) and 'reg_token' not in state:
        return f'it has no register tokens, which its family or its name says. {_AGAIN}'
    return None


def _missing_in_blocks(trunk: Trunk, config: Mapping[str, Any]) -> str | None:
    """What no block has, though all blocks of the family do; one that lacks it fits no backbone."""
    state = trunk.state
    scaled = trunk.family.startswith(('DINOv2', 'DINOv3', 'TIPSv2'))
    if scaled and not any('.ls1.' in key or '.ls2.' in key for key in state):
        return f'its blocks have no LayerScale (ls1, ls2), which every {trunk.family} has. {_AGAIN}'
    said = {'architecture', 'qkv_bias', 'model_type'} & config.keys()
    biased = 'blocks.0.attn.proj.bias' in state and trunk.settings.get('rope') is None
    if biased and not said and not any('.attn.qkv.bias' in key for key in state):
        return (
            'its queries, keys and values (attn.qkv) have no bias in any block, while attn.proj '
            'has. Fetch the file again, or keep config.json of timm or transformers beside it, '
            'which says so.'
        )
    return None


def _against_transformers(trunk: Trunk, config: Mapping[str, Any]) -> str | None:
    """What ``config.json`` of transformers says beside what the tensors have."""
    if 'model_type' not in config:
        return None
    config = {**config, **(config.get('vision_config') or {})}
    state = trunk.state
    arch = trunk.settings['arch']
    registers = state.get('reg_token')
    found: dict[str, Any] = dict(
        hidden_size=arch['embed_dim'],
        num_hidden_layers=arch['depth'],
        patch_size=arch['patch_size'],
        num_register_tokens=0 if registers is None else registers.shape[1],
    )
    if 'mlp_ratio' not in config and 'blocks.0.mlp.fc2.weight' in state:
        found['intermediate_size'] = state['blocks.0.mlp.fc2.weight'].shape[1]
    if 'use_gated_mlp' in config:
        found['use_gated_mlp'] = 'blocks.0.mlp.fc1_g.weight' in state
    for key in ('qkv_bias', 'query_bias'):
        # apart, where they do not fit what the config says
        found[key] = bool({'blocks.0.attn.qkv.bias', 'blocks.0.attn.q.bias'} & state.keys())
    for key, ours in found.items():
        said = config.get(key)
        if said is not None and not isinstance(said, list) and said != ours:
            return f'config.json says {key}={said}, the tensors {ours}. {_AGAIN}'
    heads = config.get('num_attention_heads')
    if heads and arch['embed_dim'] % int(heads):
        return f'config.json says {heads} heads, which do not divide {arch["embed_dim"]}. {_AGAIN}'
    return _positions_said(state, config)


def _positions_said(state: StateDict, config: Mapping[str, Any]) -> str | None:
    size, patch = config.get('image_size'), config.get('patch_size')
    if 'pos_embed' not in state or not isinstance(size, int) or not isinstance(patch, int):
        return None
    if 'max_img_size' in config or 'num_patches' in config:  # RADIO's and NaFlex's own
        return None
    rows = state['pos_embed'].shape[1]
    patches = (size // patch) ** 2
    if rows not in (patches, patches + 1):
        side = math.isqrt(rows)
        return (
            f'config.json says images of {size} pixels, {patches} patches; the tensors have '
            f'{rows} positions (about {side} x {side}). {_AGAIN}'
        )
    return None


def _against_timm(state: StateDict, config: Mapping[str, Any]) -> str | None:
    """Tensors and prefix tokens that timm's model of the name in ``config.json`` has."""
    name = config.get('architecture')
    if not isinstance(name, str) or not timm.is_model(name):
        return None
    arguments = json.dumps([config.get('model_args') or {}, config.get('pretrained_cfg') or {}])
    wanted, keys = _of_timm(name, arguments)
    registers = state.get('reg_token')
    ours = ('cls_token' in state) + (0 if registers is None else registers.shape[1])
    if wanted is not None and ours != wanted:
        return (
            f'config.json says {name}, of {wanted} prefix tokens; the tensors have {ours}. {_AGAIN}'
        )
    lacking = [key for key in keys if key not in state]
    if lacking:
        return f'config.json says {name}, which has {lacking[0]}; the tensors do not. {_AGAIN}'
    return None


@cache
def _of_timm(name: str, arguments: str) -> tuple[int | None, tuple[str, ...]]:
    """Prefix tokens of a timm model, and tensors that it has before its second block.

    Args:
        name: of the model.
        arguments: ``model_args`` and ``pretrained_cfg`` of the config, as JSON.
    """
    given, pretrained = json.loads(arguments)
    try:
        with torch.device('meta'):
            model: Any = timm.create_model(name, **given | {'depth': 1})
        config = {'architecture': name, 'model_args': given, 'pretrained_cfg': pretrained}
        state = ORIGINAL.convert(model.state_dict(), config).state
    except (TypeError, ValueError, AssertionError, RuntimeError, KeyError, UserError):
        return None, ()  # arguments of another version of timm, or no plain ViT
    parts = ('patch_embed.', 'pos_embed', 'norm_pre.', 'blocks.0.')
    found = tuple(key for key in state if key.startswith(parts))
    return getattr(model, 'num_prefix_tokens', None), found


def check_kernel(state: Mapping[str, torch.Tensor], key: str) -> None:
    """Raise a `UserError` if a tensor is of patches, and not of square ones of RGB images."""
    if not re.search(r'patch|conv1', key):
        return
    kernel = state[key]
    if kernel.ndim == 2:
        side = math.isqrt(kernel.shape[1] // 3)
        fits = 3 * side * side == kernel.shape[1] and side > 0
    else:
        fits = kernel.ndim == 4 and kernel.shape[1] == 3 and kernel.shape[2] == kernel.shape[3]
    if not fits:
        raise UserError(
            f'{key} is {list(kernel.shape)}, no kernel of square patches of RGB images. Use '
            'weights of a plain ViT for RGB.'
        )
