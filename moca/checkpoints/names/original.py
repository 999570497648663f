"""timm's names, and those of DINO, MAE, DINOv2 and DINOv3, which differ from them in a few."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import timm
import torch

from moca.checkpoints.names.trunk import (
    CLIP,
    HALF,
    IMAGENET,
    UNCHANGED,
    Naming,
    StateDict,
    Trunk,
    join_qkv,
    renamed,
    statistics_of,
)
from moca.errors import UserError

_TABLE = (
    (r'^(?:storage_tokens|register_tokens)$', 'reg_token'),
    (r'^rope_embed\.periods$', 'rope.periods'),
    (r'\.mlp\.c_fc\.', '.mlp.fc1.'),  # of TIPSv2, as transformers writes it
    (r'\.mlp\.c_proj\.', '.mlp.fc2.'),
    (r'\.mlp\.w12\.', '.mlp.fc1.'),
    (r'\.mlp\.w1\.', '.mlp.fc1_g.'),
    (r'\.mlp\.w2\.', '.mlp.fc1_x.'),
    (r'\.mlp\.w3\.', '.mlp.fc2.'),
    (r'\.gamma_([12])$', r'.ls\1.gamma'),
    (r'\.attn\.([qkv])_proj\.', r'.attn.\1.'),
    (r'\.attn\.inner_attn_ln\.', '.attn.norm.'),
    (r'\.mlp\.ffn_ln\.', '.mlp.norm.'),
    (r'^blocks\.\d+\.(\d+\.)', r'blocks.\1'),  # chunks of blocks, whose numbers run on
)
# Parts that published files hold beside the trunk and that act on no token of a dense task.
LEFT = (
    r'(head|fc\.|classifier|decoder|mask_token$|masked_embed$|pooler|pre_logits|predict|proj|mlp_head|'
    r'dino_head|ibot_head|lm_head|attn_pool|logit|local_cls_norm|num_batches|queue|center$|'
    r'image_prototypes|dense_prototypes|prototypes|student_|teacher_|momentum_)'
)


def _convert(state: StateDict, config: Mapping[str, Any]) -> Trunk:
    masks = {key: value for key, value in state.items() if key.endswith('qkv.bias_mask')}
    biases = [key for key in state if key.endswith('attn.qkv.bias')]
    if masks and masks.keys() != {f'{key}_mask' for key in biases}:
        raise UserError(
            f'{len(masks)} blocks have attn.qkv.bias_mask and {len(biases)} have attn.qkv.bias, '
            'which it is of. Fetch the file again.'
        )
    # angles that EVA-02 computes from the size of its images, for every block once more
    angles = [key for key in state if re.search(r'(^|\.)rope\.freqs_(cos|sin)$', key)]
    state = {key: value for key, value in state.items() if key not in masks and key not in angles}
    out, ignored = renamed(state, _TABLE, LEFT)
    ignored += angles
    for key, mask in masks.items():
        if not torch.isfinite(mask).all():
            raise UserError(
                f'{key} is not a number: a model that was made but never initialized wrote this '
                'file. Fetch the published weights, or save the model after loading them.'
            )
        (name,) = renamed({key.removesuffix('_mask'): mask}, _TABLE, LEFT)[0]  # without its chunk
        if out[name].is_floating_point():  # what is none is refused by its type
            out[name] = out[name] * mask
    _join_biases(out)
    out = join_qkv(out)
    kernel = out['patch_embed.proj.weight']
    if kernel.ndim == 2:  # a linear layer on flattened patches, in old timm files
        patch = math.isqrt(kernel.shape[1] // 3)
        out['patch_embed.proj.weight'] = kernel.reshape(-1, 3, patch, patch)
    if 'norm.weight' not in out:  # a classifier that norms the pooled vector
        out = {key.replace('fc_norm.', 'norm.', 1): value for key, value in out.items()}
    out = {key: value for key, value in out.items() if not key.startswith('fc_norm.')}
    trunk = Trunk(out, ignored, family='EVA-02' * bool(angles), statistics=statistics_of(config))
    _settle(trunk, state, config)
    return trunk


def _join_biases(state: StateDict) -> None:
    """timm's ``attn.q_bias`` and ``attn.v_bias``, between which keys have none."""
    for key in [key for key in state if key.endswith('.attn.q_bias')]:
        block = key.removesuffix('.q_bias')
        if f'{block}.v_bias' not in state:
            continue
        first, last = state.pop(key), state.pop(f'{block}.v_bias')
        if f'{block}.q.weight' in state:  # EVA-02's authors have parts
            state |= {f'{block}.q.bias': first, f'{block}.v.bias': last}
        else:
            state[f'{block}.qkv.bias'] = torch.cat([first, torch.zeros_like(first), last])


def _settle(trunk: Trunk, state: StateDict, config: Mapping[str, Any]) -> None:
    """Add what the names tell of the family, and the settings that no shape tells."""
    args = config.get('model_args') or {}
    if args.get('num_heads'):
        trunk.settings['num_heads'] = int(args['num_heads'])
    vision = {**config, **(config.get('vision_config') or {})}  # transformers, as of TIPSv2
    if vision.get('num_attention_heads'):
        trunk.settings['num_heads'] = int(vision['num_attention_heads'])
    if 'rope.periods' in trunk.state or _is_timm_dinov3(state, config):
        trunk.family, trunk.statistics = 'DINOv3', trunk.statistics or IMAGENET
        trunk.settings |= dict(norm_eps=1e-5, rope=dict(base=100.0))
    elif 'mask_token' in state and 'decoder_embed.weight' not in state:
        trunk.family, trunk.statistics = 'DINOv2', trunk.statistics or IMAGENET
        registers = 'reg_token' in trunk.state
        trunk.interpolation = 'bicubic-antialias' if registers else 'bicubic-offset'
        if registers and trunk.state['reg_token'].shape[1] == 1:  # DINOv2 and Franca have 0 or 4
            trunk.family, trunk.interpolation = 'TIPSv2', 'bilinear-antialias'
            trunk.statistics = statistics_of(config) or UNCHANGED
    if 'radio' in str(config.get('architecture', '')):
        # of timm, whose positions are resampled as those of its other ViTs
        trunk.family, trunk.interpolation = 'C-RADIO', 'bicubic-antialias'
    _settle_interleaved(trunk, state, config)
    if 'patch_embed.norm.weight' in trunk.state and 'norm.bias' not in trunk.state:  # AIMv2
        trunk.family = 'AIMv2'
        trunk.settings |= dict(norm='rms', norm_eps=1e-5)
        trunk.statistics, trunk.interpolation = trunk.statistics or CLIP, 'bicubic-antialias'
    if any('.mlp.w12.' in key for key in state):
        trunk.settings['mlp'] = 'swiglu-packed'


def _settle_interleaved(trunk: Trunk, state: StateDict, config: Mapping[str, Any]) -> None:
    """EVA-02 and Perception Encoder: nothing but timm's name of the model tells of their rotation.

    Raises:
        UserError: the file looks like one of them, and its name is not known.
    """
    said = str(config.get('architecture', ''))
    own = ['attn.inner_attn_ln.weight', 'mlp.ffn_ln.weight']
    own += ['mlp.w1.weight'] * ('pos_embed' in state)
    if not said and (trunk.family == 'EVA-02' or any(f'blocks.0.{key}' in state for key in own)):
        trunk.family, trunk.statistics = 'EVA-02', CLIP
        trunk.interpolation = 'bicubic'
        # baaivision/EVA, EVA-02: rope.py (theta 1e4) and pt_hw_seq_len 16 in all of its models
        turned = dict(kind='interleaved', base=1e4, reference=(16, 16), offset=0.0, order='ij')
        trunk.settings |= dict(norm_eps=1e-6, rope=turned)
        return
    positions = 'pos_embed' in trunk.state
    eva = 'blocks.0.mlp.norm.weight' in trunk.state
    encoder = positions and 'norm.weight' not in trunk.state and 'norm_pre.weight' in trunk.state
    if not (said.startswith(('eva02', 'vit_pe_')) or eva or encoder) or 'rope' in trunk.settings:
        return
    if not said or not timm.is_model(said):
        raise UserError(
            'its names are those of EVA-02 or Perception Encoder, whose rotary positions follow '
            "from timm's name of the model. Keep config.json (with `architecture`) beside "
            'model.safetensors.'
        )
    rope = _rope_of(said)
    eva_family = said.startswith('eva02')
    trunk.family = 'EVA-02' if eva_family else 'Perception Encoder'
    trunk.settings |= dict(
        norm_eps=1e-6 if eva_family else 1e-5,
        rope=dict(
            kind='interleaved',
            base=float(rope.temperature),
            reference=None if rope.ref_feat_shape is None else tuple(rope.ref_feat_shape),
            offset=float(rope.grid_offset),
            order=rope.grid_indexing,
        ),
    )
    trunk.statistics = trunk.statistics or (CLIP if eva_family else HALF)
    trunk.interpolation = 'bicubic-antialias'


@cache
def _rope_of(name: str) -> Any:
    """The rotary positions of a timm model."""
    with torch.device('meta'):
        model: Any = timm.create_model(name)
    return model.rope


def _is_timm_dinov3(state: StateDict, config: Mapping[str, Any]) -> bool:
    """timm's files hold no periods: its class has other names for LayerScale and no positions."""
    said = str(config.get('architecture', ''))
    named = 'dinov3' in said or 'lingbot' in said
    return named or ('blocks.0.gamma_1' in state and 'pos_embed' not in state)


ORIGINAL = Naming('patch_embed.proj.weight', _convert)
