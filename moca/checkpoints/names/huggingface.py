"""Names of transformers: ViT, ViTMAE, I-JEPA, DINOv2, DINOv3, EoMT, TIPSv2, CLIP, SigLIP."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from moca.checkpoints.names.trunk import (
    CLIP,
    HALF,
    IMAGENET,
    UNCHANGED,
    Naming,
    StateDict,
    Trunk,
    activation,
    join_qkv,
    renamed,
    statistics_of,
)

_COMMON = (
    (r'^embeddings\.cls_token$', 'cls_token'),
    (r'^embeddings\.position_embeddings$', 'pos_embed'),
    (r'^embeddings\.register_tokens$', 'reg_token'),
    (r'\.layer_scale([12])\.lambda1$', r'.ls\1.gamma'),
)
BLOCKS = (
    (r'\.layer_scale([12])\.lambda1$', r'.ls\1.gamma'),
    (r'^encoder\.layers?\.', 'blocks.'),
    (r'\.attention\.([qkv])_proj\.', r'.attn.\1.'),
    (r'\.attention\.o_proj\.', '.attn.proj.'),
    (r'\.mlp\.gate_proj\.', '.mlp.fc1_g.'),
    (r'\.mlp\.up_proj\.', '.mlp.fc1_x.'),
    (r'\.mlp\.down_proj\.', '.mlp.fc2.'),
)
"""Of the blocks of transformers' newer ViTs: TIPSv2 and RADIO."""

_VIT = (
    *_COMMON,
    *BLOCKS,
    (r'^embeddings\.patch_embeddings\.projection\.', 'patch_embed.proj.'),
    (r'\.attention\.(?:attention\.)?(q)uery\.', r'.attn.\1.'),
    (r'\.attention\.(?:attention\.)?(k)ey\.', r'.attn.\1.'),
    (r'\.attention\.(?:attention\.)?(v)alue\.', r'.attn.\1.'),
    (r'\.attention\.output\.dense\.', '.attn.proj.'),
    (r'\.layernorm_before\.', '.norm1.'),
    (r'\.layernorm_after\.', '.norm2.'),
    (r'\.intermediate\.dense\.', '.mlp.fc1.'),
    (r'(blocks\.\d+)\.output\.dense\.', r'\1.mlp.fc2.'),
    (r'^layers\.', 'blocks.'),  # from here to proj EoMT's
    (r'^embeddings\.position_embeddings\.weight$', 'pos_embed'),
    (r'\.attention\.([qkv])_proj\.', r'.attn.\1.'),
    (r'\.attention\.out_proj\.', '.attn.proj.'),
    (r'\.mlp\.weights_in\.', '.mlp.fc1.'),
    (r'\.mlp\.weights_out\.', '.mlp.fc2.'),
    (r'^layernorm\.', 'norm.'),
)
_DINOV3 = (
    *_COMMON,
    (r'^embeddings\.patch_embeddings\.', 'patch_embed.proj.'),
    (r'^(?:model\.)?layers?\.', 'blocks.'),
    (r'^layernorm\.', 'norm.'),
    (r'\.attention\.([qkv])_proj\.', r'.attn.\1.'),
    (r'\.attention\.o_proj\.', '.attn.proj.'),
    (r'\.mlp\.gate_proj\.', '.mlp.fc1_g.'),
    (r'\.mlp\.down_proj\.', '.mlp.fc2.'),
)
_TOWER = (
    (r'^embeddings\.patch_embedding\.', 'patch_embed.proj.'),
    (r'^pre_layrnorm\.', 'norm_pre.'),  # sic
    (r'^encoder\.layers\.', 'blocks.'),
    (r'\.layer_norm([12])\.', r'.norm\1.'),
    (r'\.self_attn\.([qkv])_proj\.', r'.attn.\1.'),
    (r'\.self_attn\.out_proj\.', '.attn.proj.'),
    (r'^post_layernorm\.', 'norm.'),
)
_EOMT = (
    r'query|upscale_block|mask_head|class_predictor|attn_mask_probs|criterion|'
    r'embeddings\.(?:mask_token|position_ids)'
)
_LEFT = r'embeddings\.mask_token|classifier|head'
# By transformers' model_type: how it is called, LayerNorm's eps, mean and deviation. The eps of
# ViT, ViTMAE and I-JEPA are transformers' defaults, those of the published configs.
_KINDS = {
    'eomt': ('EoMT (Hugging Face)', 1e-6, IMAGENET),
    'vit': ('ViT (Hugging Face)', 1e-12, HALF),
    'vit_mae': ('MAE (Hugging Face)', 1e-12, IMAGENET),
    'ijepa': ('I-JEPA (Hugging Face)', 1e-12, IMAGENET),
    'dinov2': ('DINOv2 (Hugging Face)', 1e-6, IMAGENET),
    'dinov2_with_registers': ('DINOv2 (Hugging Face)', 1e-6, IMAGENET),
    'tipsv2_vision_model': ('TIPSv2 (Hugging Face)', 1e-6, UNCHANGED),
}


def _vit(state: StateDict, config: Mapping[str, Any]) -> Trunk:
    config = {**config, **(config.get('vision_config') or {})}
    kind = config.get('model_type') or _guess(state)
    family, eps, statistics = _KINDS.get(kind, (f'{kind} (Hugging Face)', 1e-12, None))
    if kind == 'eomt':
        left = _EOMT
    elif kind.startswith(('dinov2', 'tipsv2')):
        left = r'embeddings\.mask_token|pooler|classifier|head'
    else:
        left = r'embeddings\.mask_token|pooler|classifier|head|decoder'
    out, ignored = renamed(state, _VIT, left)
    out = join_qkv(out, 'qkv' if config.get('qkv_bias', True) else '')
    if kind == 'eomt' and out['pos_embed'].ndim == 2:
        out['pos_embed'] = out['pos_embed'][None]
    settings = block_settings(out, config, eps)
    if any('.mlp.weights_in.' in key for key in state):
        settings.pop('act_layer', None)
        settings['mlp'] = 'swiglu-packed'
    interpolation = 'bicubic-antialias' if 'reg_token' in out else 'bicubic'
    if kind.startswith('tipsv2'):
        interpolation = 'bilinear-antialias'
    return Trunk(out, ignored, settings, family, statistics_of(config) or statistics, interpolation)


def _guess(state: StateDict) -> str:
    """The model type of a file without its config."""
    if 'query.weight' in state:
        return 'eomt'
    if any('.attention.q_proj.' in key for key in state):
        return 'tipsv2_vision_model'
    if any('layer_scale1' in key for key in state):
        return 'dinov2'
    return 'vit' if 'embeddings.cls_token' in state else 'ijepa'


def _settings(config: Mapping[str, Any], eps: float) -> dict[str, Any]:
    settings: dict[str, Any] = {'norm_eps': float(config.get('layer_norm_eps', eps))}
    if heads := config.get('num_attention_heads'):
        settings['num_heads'] = int(heads)
    return settings | activation(config.get('hidden_act'))


def block_settings(state: StateDict, config: Mapping[str, Any], eps: float) -> dict[str, Any]:
    """Heads, eps and activation, which gated MLPs have of their own."""
    settings = _settings(config, eps)
    if 'blocks.0.mlp.fc1_g.weight' in state:
        settings.pop('act_layer', None)
    return settings


def _dinov3(state: StateDict, config: Mapping[str, Any]) -> Trunk:
    gated = any('.mlp.gate_proj.' in key for key in state)
    table = (*_DINOV3, (r'\.mlp\.up_proj\.', '.mlp.fc1_x.' if gated else '.mlp.fc1.'))
    eomt = 'query.weight' in state
    left = _EOMT if eomt else _LEFT
    out, ignored = renamed(state, table, left)
    biases = [config.get(f'{name}_bias') for name in ('query', 'key', 'value')]
    lettered = ''.join(letter for letter, bias in zip('qkv', biases, strict=True) if bias)
    out = join_qkv(out, None if None in biases else lettered)
    settings = block_settings(out, config, 1e-6 if eomt else 1e-5)
    settings['rope'] = dict(base=float(_rope_base(config)))
    return Trunk(
        out,
        ignored,
        settings,
        'EoMT on DINOv3 (Hugging Face)' if eomt else 'DINOv3 (Hugging Face)',
        statistics_of(config) or IMAGENET,
    )


def _rope_base(config: Mapping[str, Any]) -> float:
    nested = config.get('rope_parameters') or {}
    return float(config.get('rope_theta') or nested.get('rope_theta') or 100.0)


def _tower(state: StateDict, config: Mapping[str, Any]) -> Trunk:
    config = {**config, **(config.get('vision_config') or {})}
    out, ignored = renamed(state, _TOWER, r'head\.|embeddings\.position_ids')
    out = join_qkv(out, 'qkv')
    cls = out.pop('embeddings.class_embedding', None)
    if cls is not None:
        out['cls_token'] = cls.reshape(1, 1, -1)
    positions = out.pop('embeddings.position_embedding.weight', None)
    if positions is not None:
        out['pos_embed'] = positions[None]
    kernel = out['patch_embed.proj.weight']
    naflex = kernel.ndim == 2  # a linear layer on patches [rows, columns, 3]
    if naflex:
        patch = math.isqrt(kernel.shape[1] // 3)
        kernel = kernel.reshape(-1, patch, patch, 3).permute(0, 3, 1, 2)
        out['patch_embed.proj.weight'] = kernel.contiguous()
    clip = cls is not None
    name = 'CLIP' if clip else 'SigLIP'
    settings = _settings(config, 1e-5 if clip else 1e-6)
    if not config.get('hidden_act'):
        settings |= activation('quick_gelu' if clip else 'gelu_pytorch_tanh')
    statistics = statistics_of(config) or (CLIP if clip else HALF)
    interpolation = 'bilinear-antialias' if naflex else 'bicubic'
    return Trunk(out, ignored, settings, f'{name} (Hugging Face)', statistics, interpolation)


VIT = Naming('embeddings.patch_embeddings.projection.weight', _vit)
DINOV3 = Naming('embeddings.patch_embeddings.weight', _dinov3)
TOWER = Naming('embeddings.patch_embedding.weight', _tower)
