"""OpenCLIP's names, which are OpenAI's: a visual tower without timm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moca.checkpoints.names.trunk import CLIP, Naming, StateDict, Trunk, renamed, statistics_of

_TABLE = (
    (r'^conv1\.', 'patch_embed.proj.'),
    (r'^ln_pre\.', 'norm_pre.'),
    (r'^ln_post\.', 'norm.'),
    (r'^transformer\.resblocks\.', 'blocks.'),
    (r'\.ln_([12])\.', r'.norm\1.'),
    (r'\.attn\.in_proj_(weight|bias)$', r'.attn.qkv.\1'),
    (r'\.attn\.out_proj\.', '.attn.proj.'),
    (r'\.mlp\.c_fc\.', '.mlp.fc1.'),
    (r'\.mlp\.c_proj\.', '.mlp.fc2.'),
    (r'\.ls_([12])\.gamma$', r'.ls\1.gamma'),
)


def _convert(state: StateDict, config: Mapping[str, Any]) -> Trunk:
    out, ignored = renamed(state, _TABLE, r'proj$|attn_pool')
    cls, positions = out.pop('class_embedding', None), out.pop('positional_embedding', None)
    if cls is not None:
        out['cls_token'] = cls.reshape(1, 1, -1)
    if positions is not None:
        out['pos_embed'] = positions[None]
    model = config.get('model_cfg') or {}
    vision = model.get('vision_cfg') or {}
    settings: dict[str, Any] = {'norm_eps': 1e-5}  # torch's, which open_clip.transformer keeps
    if model.get('quick_gelu'):
        settings['act_layer'] = 'quick_gelu'
    width = out['patch_embed.proj.weight'].shape[0]
    settings['num_heads'] = width // int(vision.get('head_width', 64))
    return Trunk(
        out, ignored, settings, 'OpenCLIP', statistics_of(config) or CLIP, 'bicubic-antialias'
    )


OPENCLIP = Naming('conv1.weight', _convert)
