"""AIMv2's names: those of its authors (apple/aimv2-*) and those of transformers' own class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moca.checkpoints.names.trunk import (
    CLIP,
    Naming,
    StateDict,
    Trunk,
    join_qkv,
    renamed,
    statistics_of,
)

_AUTHORS = (
    (r'^preprocessor\.patchifier\.', 'patch_embed.'),
    (r'^preprocessor\.pos_embed$', 'pos_embed'),
    (r'^trunk\.blocks\.', 'blocks.'),
    (r'\.norm_([12])\.', r'.norm\1.'),
    (r'\.mlp\.fc1\.', '.mlp.fc1_g.'),
    (r'\.mlp\.fc3\.', '.mlp.fc1_x.'),
    (r'^trunk\.post_trunk_norm\.', 'norm.'),
)
_TRANSFORMERS = (
    (r'^embeddings\.patch_embed\.', 'patch_embed.proj.'),
    (r'^embeddings\.rms_norm\.', 'patch_embed.norm.'),
    (r'^encoder\.layers\.', 'blocks.'),
    (r'\.rms_norm([12])\.', r'.norm\1.'),
    (r'\.attention\.([qkv])_proj\.', r'.attn.\1.'),
    (r'\.attention\.out_proj\.', '.attn.proj.'),
    (r'\.ffn\.gate_proj\.', '.mlp.fc1_g.'),
    (r'\.ffn\.up_proj\.', '.mlp.fc1_x.'),
    (r'\.ffn\.down_proj\.', '.mlp.fc2.'),
    (r'^rms_norm\.', 'norm.'),
)


def _authors(state: StateDict, config: Mapping[str, Any]) -> Trunk:
    return _trunk(*renamed(state, _AUTHORS, r'head\.'), config)


def _transformers(state: StateDict, config: Mapping[str, Any]) -> Trunk:
    out, ignored = renamed(state, _TRANSFORMERS, r'head\.|embeddings\.position_ids')
    positions = out.pop('embeddings.position_embedding.weight', None)
    if positions is not None:
        out['pos_embed'] = positions[None]
    return _trunk(join_qkv(out), ignored, {**config, **(config.get('vision_config') or {})})


def _trunk(state: StateDict, ignored: list[str], config: Mapping[str, Any]) -> Trunk:
    settings: dict[str, Any] = dict(norm='rms', norm_eps=float(config.get('rms_norm_eps', 1e-5)))
    if heads := config.get('num_attention_heads'):
        settings['num_heads'] = int(heads)
    else:  # heads of 128 channels, in all that is published
        settings['num_heads'] = max(len(state['patch_embed.proj.weight']) // 128, 1)
    statistics = statistics_of(config) or CLIP
    return Trunk(state, ignored, settings, 'AIMv2', statistics, 'bicubic-antialias')


AUTHORS = Naming('preprocessor.patchifier.proj.weight', _authors)
TRANSFORMERS = Naming('embeddings.patch_embed.weight', _transformers)
