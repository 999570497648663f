"""C-RADIO's names, its authors' and transformers': positions are cropped, no norm at the end."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from moca.checkpoints.names.huggingface import BLOCKS, block_settings
from moca.checkpoints.names.trunk import (
    CLIP,
    Naming,
    StateDict,
    Statistics,
    Trunk,
    join_qkv,
    renamed,
    statistics_of,
)

_TABLE = (
    (r'^patch_generator\.embedder\.', 'patch_embed.proj.'),
    (r'^patch_generator\.pos_embed$', 'pos_embed'),
    (r'\.grandma$', '.gamma'),  # sic, lest transformers rename it
    *BLOCKS,
)


def _convert(state: StateDict, config: Mapping[str, Any]) -> Trunk:
    out, ignored = renamed(state, _TABLE, r'head\.|patch_generator\.video_embedder\.')
    _split(out, 'patch_generator.cls_token.token')
    # The code beside the weights of v3's L and g and of v4 aligns no corners [timm 1.0.31,
    # models/vision_transformer.py, _RADIO_ALIGN_CORNERS].
    version = str(config.get('version', '')).lower()
    free = 'v4' in version or version.endswith(('v3-l', 'v3-g'))
    free = free or config.get('model_type') == 'radio'  # transformers writes the authors' names
    settings = block_settings(out, config, 1e-6) | dict(no_embed_class=True)
    interpolation = 'bilinear-crop' if free else 'bilinear-crop-aligned'
    return Trunk(out, ignored, settings, 'C-RADIO', _statistics(config), interpolation)


def _split(state: StateDict, tokens: str) -> None:
    """Kernels and prefix tokens as timm has them; the first class token of a teacher is the one."""
    kernel = state['patch_embed.proj.weight']  # [C, 3 * patch * patch]
    patch = math.isqrt(kernel.shape[-1] // 3)
    state['patch_embed.proj.weight'] = kernel.reshape(-1, 3, patch, patch)
    prefix = state.pop(tokens, None)  # class tokens of the teachers, then registers
    if prefix is not None:
        state['cls_token'], state['reg_token'] = prefix[None, :1], prefix[None, 1:]


def _transformers(state: StateDict, config: Mapping[str, Any]) -> Trunk:
    table = (
        (r'^embeddings\.patch_projection\.', 'patch_embed.proj.'),
        (r'^embeddings\.position_embedding$', 'pos_embed'),
        *BLOCKS,
    )
    beside = r'embeddings\.video_patch_projection\.|input_conditioner\.|summary_idxs$'
    out, ignored = renamed(state, table, beside)
    _split(out, 'embeddings.cls_register_token')
    settings = block_settings(out, config, 1e-6) | dict(no_embed_class=True)
    family, statistics = 'C-RADIO (Hugging Face)', _statistics(config)
    out = join_qkv(out, 'qkv' if config.get('qkv_bias', True) else '')
    return Trunk(out, ignored, settings, family, statistics, 'bilinear-crop')


def _statistics(config: Mapping[str, Any]) -> Statistics:
    said = {'mean': config.get('norm_mean'), 'std': config.get('norm_std')}
    return statistics_of(said) or CLIP


HF_RADIO = Naming('embeddings.patch_projection.weight', _transformers)
RADIO = Naming('patch_generator.embedder.weight', _convert)
