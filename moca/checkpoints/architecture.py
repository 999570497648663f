"""The architecture of a ViT from its tensors and from what its naming or its config tells."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import torch

from moca.backbone.arch import vit_dimensions
from moca.checkpoints.names.trunk import StateDict, Trunk

# Heads of published ViTs by width: timm's models of these names, DeiT to SigLIP's So400m, and
# DINOv2's giant; others have heads of 64 channels.
_HEADS = {1152: 16, 1280: 16, 1408: 16, 1664: 16}


def block_numbers(state: StateDict) -> set[int]:
    """The numbers of the blocks that a state dict has; other keys may begin like theirs."""
    found = (re.match(r'blocks\.(\d+)\.', key) for key in state)
    return {int(match[1]) for match in found if match}


def complete(trunk: Trunk, said: Mapping[str, Any] | str | None, heads: int | None) -> None:
    """Add to a trunk's settings what its shapes tell, and to its state what no file holds.

    Args:
        trunk: changed in place.
        said: the architecture of the run that wrote the file, if that is known.
        heads: the number of heads, where the family has another than the width tells.
    """
    state, settings = trunk.state, trunk.settings
    kernel = state['patch_embed.proj.weight']
    width, patch = kernel.shape[0], kernel.shape[-1]
    if said is not None and vit_dimensions(said).embed_dim == width:
        settings['num_heads'] = vit_dimensions(said).num_heads
    if 'rope.periods' in state:
        settings.setdefault('num_heads', width // (4 * len(state['rope.periods'])))
    heads_said = settings.get('num_heads', 1)
    if heads_said < 1 or width % heads_said:  # of a config that is refused for it
        del settings['num_heads']
    if 'num_heads' not in settings:
        settings['num_heads'] = heads or _HEADS.get(width, max(width // 64, 1))
        settings['heads_guessed'] = heads is None
    _move_class_position(state)
    depth = 1 + max(block_numbers(state))
    arch: dict[str, Any] = dict(patch_size=patch, embed_dim=width, depth=depth)
    arch |= {key: value for key, value in settings.items() if key != 'heads_guessed'}
    registers = state.get('reg_token')
    prefix = ('cls_token' in state) + (0 if registers is None else registers.shape[1])
    if registers is not None:
        arch['reg_tokens'] = registers.shape[1]
    if 'cls_token' not in state:
        arch['class_token'] = False
    if 'pos_embed' not in state:
        arch['pos_embed'] = 'none'
    else:
        rows = state['pos_embed'].shape[1]
        own = registers is not None or 'cls_token' not in state
        side = math.isqrt(rows if own else max(rows - prefix, 0))
        arch['no_embed_class'] = own
        if side > 0 and side * side == (rows if own else rows - prefix):
            arch['img_size'] = side * patch
    _hidden(arch, state)
    if 'blocks.0.ls1.gamma' in state:
        arch['init_values'] = 1e-5  # any: the file has the values
    if 'blocks.0.attn.qkv.bias' not in state:
        arch['qkv_bias'] = False
    if 'blocks.0.attn.proj.bias' not in state:
        arch['proj_bias'] = False
    if 'blocks.0.attn.q_norm.weight' in state:
        arch['qk_norm'] = True
    if 'blocks.0.mlp.norm.weight' in state:
        arch['scale_mlp_norm'] = True
    if 'blocks.0.attn.norm.weight' in state:
        arch['scale_attn_norm'] = True
    bare_end = trunk.family.startswith(('Perception Encoder', 'C-RADIO'))
    if bare_end and 'norm.weight' not in state:
        arch['final_norm'] = False
    if 'norm_pre.weight' in state:
        arch['pre_norm'] = True
    if ('patch_embed.proj.bias' in state) == bool(arch.get('pre_norm')):
        arch['patch_bias'] = 'patch_embed.proj.bias' in state
    if 'patch_embed.norm.weight' in state:
        arch['patch_norm'] = True
    rope = arch.get('rope')
    if rope is not None and rope.get('kind', 'dinov3') == 'dinov3' and 'rope.periods' not in state:
        count = width // arch['num_heads'] // 4
        exponents = 2 * torch.arange(count, dtype=torch.float32) / (2 * count)
        state['rope.periods'] = float(rope['base']) ** exponents
    trunk.settings['arch'] = arch


def _hidden(arch: dict[str, Any], state: StateDict) -> None:
    width = arch['embed_dim']
    if 'blocks.0.mlp.fc1_g.weight' in state:
        hidden = state['blocks.0.mlp.fc1_g.weight'].shape[0]
        bias = 'blocks.0.mlp.fc1_g.bias' in state
        arch.update(mlp='swiglu', mlp_hidden=hidden, mlp_bias=bias)
    elif 'blocks.0.mlp.fc1.weight' in state:
        hidden = state['blocks.0.mlp.fc1.weight'].shape[0]
        if arch.get('mlp') == 'swiglu-packed':
            arch['mlp_hidden'] = hidden
        else:
            arch['mlp_ratio'] = hidden / width


def _move_class_position(state: StateDict) -> None:
    """Add the class token's position to the token, where registers have none.

    timm's ViTs with registers (`no_embed_class`) have positions of patches alone.
    """
    if not {'reg_token', 'pos_embed', 'cls_token'} <= state.keys():
        return
    positions = state['pos_embed']
    side = math.isqrt(positions.shape[1] - 1)
    if side * side == positions.shape[1] - 1:
        state['cls_token'] = state['cls_token'] + positions[:, :1]
        state['pos_embed'] = positions[:, 1:]
