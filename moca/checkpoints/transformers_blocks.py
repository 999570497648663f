"""The weights of a transformer block under the names of Hugging Face transformers."""

from __future__ import annotations

import torch
from torch import Tensor

from moca.errors import UserError

# Names of one block: ours to theirs; queries, keys, values and gated MLPs are taken apart below.
_VIT = {
    'norm1': 'layernorm_before',
    'norm2': 'layernorm_after',
    'attn.proj': 'attention.output.dense',
    'mlp.fc1': 'intermediate.dense',
    'mlp.fc2': 'output.dense',
}
_DINOV2 = {
    'norm1': 'norm1',
    'norm2': 'norm2',
    'attn.proj': 'attention.output.dense',
    'mlp.fc1': 'mlp.fc1',
    'mlp.fc2': 'mlp.fc2',
}
_DINOV3 = {**_DINOV2, 'attn.proj': 'attention.o_proj', 'mlp.fc1': 'mlp.up_proj'}
_DINOV3['mlp.fc2'] = 'mlp.down_proj'


def block_weights(
    kind: str, width: int, key_bias: bool, left: dict[str, Tensor]
) -> dict[str, Tensor]:
    """One block's weights under transformers' names, without the prefix of the block.

    Args:
        kind: The ``model_type``.
        width: Channels.
        key_bias: Whether DINOv3's keys get a bias.
        left: The block's weights under timm's names, all of which are taken out.

    Raises:
        UserError: There are weights that no class of transformers has.
    """
    plain = {'vit': _VIT, 'dinov3_vit': _DINOV3}.get(kind, _DINOV2)
    state: dict[str, Tensor] = {}
    attention = 'attention.{}_proj' if kind == 'dinov3_vit' else 'attention.attention.{}'
    names = ('q', 'k', 'v') if kind == 'dinov3_vit' else ('query', 'key', 'value')
    for part in {'weight', 'bias'} & {key.removeprefix('attn.qkv.') for key in left}:
        for name, value in zip(names, left.pop(f'attn.qkv.{part}').chunk(3), strict=True):
            if (name, part) != ('k', 'bias') or key_bias:
                state[f'{attention.format(name)}.{part}'] = value
    if kind != 'vit':
        for number in (1, 2):
            scale = left.pop(f'ls{number}.gamma', left['norm1.weight'].new_ones(width))
            state[f'layer_scale{number}.lambda1'] = scale
    state.update(_gates(kind, left))
    for ours, theirs in plain.items():
        for part in ('weight', 'bias'):
            if f'{ours}.{part}' in left:
                state[f'{theirs}.{part}'] = left.pop(f'{ours}.{part}')
            elif part == 'bias' and kind != 'dinov3_vit' and f'{theirs}.weight' in state:
                state[f'{theirs}.bias'] = torch.zeros_like(state[f'{theirs}.weight'][:, 0])
    if left:
        raise unsayable(f"a block's {', '.join(list(left)[:3])}")
    return state


def _gates(kind: str, left: dict[str, Tensor]) -> dict[str, Tensor]:
    """A gated MLP's weights, ``down(silu(gate x) * up x)``; nothing of a plain one's."""
    state: dict[str, Tensor] = {}
    down = left.get('mlp.fc2.weight')
    assert down is not None
    for part in ('weight', 'bias'):
        gate, up = left.pop(f'mlp.fc1_g.{part}', None), left.pop(f'mlp.fc1_x.{part}', None)
        packed = left.get(f'mlp.fc1.{part}')
        if gate is None and packed is not None and len(packed) == 2 * down.shape[1]:
            gate, up = left.pop(f'mlp.fc1.{part}').chunk(2)
        if gate is None or up is None:
            continue
        if kind == 'dinov3_vit':
            state |= {f'mlp.gate_proj.{part}': gate, f'mlp.up_proj.{part}': up}
        else:
            state[f'mlp.weights_in.{part}'] = torch.cat([gate, up])
            state[f'mlp.weights_out.{part}'] = left.pop(f'mlp.fc2.{part}')
    if 'mlp.weights_in.weight' in state and 'mlp.weights_in.bias' not in state:
        for name in ('in', 'out'):  # theirs always has them
            weight = state[f'mlp.weights_{name}.weight']
            state[f'mlp.weights_{name}.bias'] = torch.zeros_like(weight[:, 0])
            left.pop('mlp.fc2.bias', None)
    return state


def unsayable(what: str) -> UserError:
    """The error for a backbone that has something which no ViT of transformers has."""
    return UserError(
        f'--to transformers: the backbone has {what}, which no ViT of transformers has. '
        'Export it --to timm or --to safetensors.'
    )
