"""CAPI's names: blocks of two residual branches, each with rotary frequencies of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moca.checkpoints.names.trunk import IMAGENET, Naming, StateDict, Trunk, join_qkv, renamed
from moca.errors import UserError

_TABLE = (
    (r'^patch_embed\.', 'patch_embed.proj.'),
    (r'^registers$', 'reg_token'),
    (r'^encoder\.blocks\.', 'blocks.'),
    (r'\.residual([12])\.norm\.', r'.norm\1.'),
    (r'\.residual1\.fn\.([qkv])_proj\.', r'.attn.\1.'),
    (r'\.residual1\.fn\.proj\.', '.attn.proj.'),
    (r'\.residual1\.fn\.rope\.freqs$', '.attn.freqs'),
    (r'\.residual2\.fn\.', '.mlp.'),
)


def _convert(state: StateDict, config: Mapping[str, Any]) -> Trunk:
    for key in ('patch_embed.weight', 'encoder.blocks.0.residual1.fn.rope.freqs'):
        if key not in state:
            raise UserError(f'has the blocks of CAPI but no {key}. Fetch it again.')
    out, ignored = renamed(state, _TABLE, r'decoder\.|mask_token$')
    width, head_dim = len(out['patch_embed.proj.weight']), out['blocks.0.attn.freqs'].shape[-1]
    settings: dict[str, Any] = dict(
        norm='rms', norm_eps=1e-5, final_affine=False, rope=dict(kind='learned')
    )
    settings['num_heads'] = width // head_dim
    return Trunk(join_qkv(out), ignored, settings, 'CAPI', IMAGENET)


CAPI = Naming('encoder.blocks.0.residual1.fn.q_proj.weight', _convert)
