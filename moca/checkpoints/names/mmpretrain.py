"""Names of mmpretrain's and mmsegmentation's own ViT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moca.checkpoints.names.trunk import Naming, StateDict, Trunk, renamed

_TABLE = (
    (r'^patch_embed\.projection\.', 'patch_embed.proj.'),
    (r'^layers\.', 'blocks.'),
    (r'\.ln([12])\.', r'.norm\1.'),
    (r'\.attn\.attn\.in_proj_(weight|bias)$', r'.attn.qkv.\1'),
    (r'\.attn\.attn\.out_proj\.', '.attn.proj.'),
    (r'\.ffn\.layers\.0\.0\.', '.mlp.fc1.'),
    (r'\.ffn\.layers\.1\.', '.mlp.fc2.'),
    (r'\.gamma([12])\.weight$', r'.ls\1.gamma'),
    (r'^ln1\.', 'norm.'),
    (r'^pre_norm\.', 'norm_pre.'),
)


def _convert(state: StateDict, config: Mapping[str, Any]) -> Trunk:
    out, ignored = renamed(state, _TABLE, r'head|neck|ln2\.')
    return Trunk(out, ignored, family='mmpretrain or mmseg')


MMPRETRAIN = Naming('patch_embed.projection.weight', _convert)
