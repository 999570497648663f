"""Whether the tensors of an encoder are whole: what would load and still be another network."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import timm
import torch

from moca.checkpoints.names.trunk import StateDict, Trunk
from moca.errors import UserError

_AGAIN = 'Fetch the file again, or config.json with it.'


def unsound(trunk: Trunk, config: Mapping[str, Any], run: bool, name: str) -> str | None:
    """Say what an encoder lacks or what its own config says otherwise; None if it is whole.

    Args:
        trunk: with the architecture that its shapes tell, see `architecture.complete`.
        config: what lies beside the file, as transformers or timm writes it; empty if nothing.
        run: whether a run of this suite says the architecture, which may then be without positions.
        name: of the file; published ones say their registers.
    """
    state = trunk.state
    return (
        _odd_tensor(state)
        or (None if run else _missing(trunk, name))
        or _against_transformers(trunk, config)
        or _against_timm(state, config)
    )


def _odd_tensor(state: StateDict) -> str | None:
    for key, value in state.items():
        if not value.is_floating_point() or value.element_size() == 1 or value.is_quantized:
            kind = str(value.dtype).removeprefix('torch.')
            return (
                f'{key} is of type {kind}, quantized or no weights at all. Use the weights in '
                'float32, float16 or bfloat16.'
            )
    positions = state.get('pos_embed')
    if positions is not None and (positions.ndim != 3 or len(positions) != 1):
        return (
            f'pos_embed is {list(positions.shape)}, not [1, tokens, channels], as in SAM and kin. '
            'Use weights of a plain ViT.'
        )
    return None


def _missing(trunk: Trunk, name: str) -> str | None:
    """A part that every ViT of the kind has; without it, the rest would load in full."""
    state, rope = trunk.state, trunk.settings.get('rope')
    if 'pos_embed' not in state and rope is None:
        return (
            'it has no positions, neither learned nor rotary ones, so that its features would be '
            'others. Fetch the file again, or take one that is not cut.'
        )
    bare = 'norm_pre.weight' in state or trunk.family.startswith('C-RADIO')
    if 'patch_embed.proj.bias' not in state and not bare:
        return f'patch_embed.proj has no bias, which every ViT of its kind has. {_AGAIN}'
    kind = None if rope is None else rope.get('kind', 'dinov3')
    if kind == 'dinov3' and 'cls_token' not in state:
        return f'it has no class token, which every ViT with its rotary positions has. {_AGAIN}'
    if kind == 'interleaved' and 'pos_embed' not in state:
        return f'it has no learned positions, which its family has beside rotary ones. {_AGAIN}'
    # of training runs of DINOv3 some have no registers, of what is published all have
    registers = kind == 'learned' or re.search(r'_reg\d|dinov3_vit', name)
    if registers and 'reg_token' not in state:
        return f'it has no register tokens, which its family or its name says. {_AGAIN}'
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
        found[key] = 'blocks.0.attn.qkv.bias' in state
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
    """Prefix tokens that timm's model of the name in ``config.json`` has."""
    name = config.get('architecture')
    if not isinstance(name, str) or not timm.is_model(name):
        return None
    try:
        with torch.device('meta'):
            model: Any = timm.create_model(name, **_structure(config))
    except (TypeError, ValueError, AssertionError, RuntimeError):
        return None  # arguments of another version of timm
    registers = state.get('reg_token')
    ours = ('cls_token' in state) + (0 if registers is None else registers.shape[1])
    theirs = getattr(model, 'num_prefix_tokens', ours)
    if ours != theirs:
        return (
            f'config.json says {name}, of {theirs} prefix tokens; the tensors have {ours}. {_AGAIN}'
        )
    return None


def _structure(config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a timm model that change its prefix tokens, and a depth that is cheap."""
    args = config.get('model_args') or {}
    names = ('class_token', 'reg_tokens', 'num_reg_tokens')
    return {'depth': 1, **{name: args[name] for name in names if name in args}}


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
