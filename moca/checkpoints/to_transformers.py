"""A backbone in the words of Hugging Face transformers: config and weights of its ViT classes.

Names and fields are those that transformers 5.24 writes for ViTModel, Dinov2Model,
Dinov2WithRegistersModel and DINOv3ViTModel.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import Attention, GluMlp, SwiGLU
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from moca.backbone.rope import RopeAttention, rounded_periods
from moca.backbone.vit import PlainViT
from moca.checkpoints.transformers_blocks import block_weights, unsayable

CLASSES = {
    'vit': 'ViTModel',
    'dinov2': 'Dinov2Model',
    'dinov2_with_registers': 'Dinov2WithRegistersModel',
    'dinov3_vit': 'DINOv3ViTModel',
}
"""transformers' ``model_type`` to its class."""

RESAMPLED_BY = {
    'vit': 'bicubic',
    'dinov2': 'bicubic',
    'dinov2_with_registers': 'bicubic-antialias',
}
"""How transformers resamples positions, in `moca.backbone.positions.INTERPOLATIONS`."""


def as_transformers(model: PlainViT) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The ``config.json`` of a backbone, and its weights under transformers' names.

    Rotary positions make it a DINOv3ViTModel; LayerScale, registers or a gated MLP a DINOv2 model;
    anything else a ViTModel. What a class has and the backbone lacks is filled in so that features
    stay the same: LayerScale of ones, biases and mask tokens of zeros. ViTModel's pooler is left
    out.

    Raises:
        UserError: The backbone has something that no class of transformers has.
    """
    kind = model_type(model)
    left = {key: value.detach() for key, value in model.state_dict().items()}
    config = {**_shared_config(model, kind), **_own_config(model, kind)}
    state = _embeddings(model, kind, left)
    start = 'layer' if kind == 'dinov3_vit' else 'encoder.layer'
    for index in range(model.num_layers):
        own = _below(left, f'blocks.{index}.')
        theirs = block_weights(kind, model.embed_dims, bool(config.get('key_bias')), own)
        state.update({f'{start}.{index}.{key}': value for key, value in theirs.items()})
    final = 'norm' if kind == 'dinov3_vit' else 'layernorm'
    for part in ('weight', 'bias'):
        state[f'{final}.{part}'] = left.pop(f'norm.{part}')
    if left:
        raise unsayable(f'the weights {", ".join(list(left)[:3])}')
    return config, {key: value.contiguous().clone() for key, value in state.items()}


def model_type(model: PlainViT) -> str:
    """The ``model_type`` of the class of transformers that a backbone is.

    Raises:
        UserError: None is.
    """
    if model.window_size is not None:
        raise unsayable('attention windows')
    if model.cls_token is None:
        raise unsayable('no class token')
    if model.grid[0] != model.grid[1]:
        raise unsayable(f'positions for a grid of {model.grid[0]} x {model.grid[1]}, not a square')
    for block in model.blocks:
        if type(block) is not Block or type(block.attn) not in (Attention, RopeAttention):
            raise unsayable(f'blocks that are {type(block).__name__}s')
    norms = [model.norm, *(norm for block in model.blocks for norm in (block.norm1, block.norm2))]
    if not all(isinstance(norm, nn.LayerNorm) and norm.bias is not None for norm in norms):
        raise unsayable(f'norms that are {type(norms[-1]).__name__}s')
    if len({norm.eps for norm in norms}) > 1:
        raise unsayable('norms of different eps')
    if model.rope is not None:
        if model.rope.kind != 'dinov3':
            raise unsayable('rotary positions of EVA-02 or Perception Encoder')
        return 'dinov3_vit'
    if model.pos_embed is None:
        raise unsayable('no position embedding')
    if model.reg_token is not None:
        return 'dinov2_with_registers'
    block = model.blocks[0]
    return 'dinov2' if hasattr(block.ls1, 'gamma') or _gated(block.mlp) else 'vit'


def _shared_config(model: PlainViT, kind: str) -> dict[str, Any]:
    return {
        'architectures': [CLASSES[kind]],
        'model_type': kind,
        'dtype': str(next(model.parameters()).dtype).removeprefix('torch.'),
        'hidden_size': model.embed_dims,
        'num_hidden_layers': model.num_layers,
        'num_attention_heads': model.num_heads,
        'num_channels': 3,
        'patch_size': model.patch_size,
        'image_size': model.grid[0] * model.patch_size,
        'layer_norm_eps': model.norm.eps,
        'hidden_act': _activation(model.blocks[0].mlp),
    }


def _own_config(model: PlainViT, kind: str) -> dict[str, Any]:
    block = model.blocks[0]
    hidden, gated, bias = block.mlp.fc2.in_features, _gated(block.mlp), block.attn.qkv.bias
    if kind == 'vit':
        return {'intermediate_size': hidden, 'qkv_bias': bias is not None}
    registers = {} if model.reg_token is None else {'num_register_tokens': model.reg_token.shape[1]}
    if kind == 'dinov3_vit':
        return {
            'num_register_tokens': 0,
            **registers,
            'intermediate_size': hidden,
            'use_gated_mlp': gated,
            'query_bias': bias is not None,
            'key_bias': any(_key_bias(other.attn) for other in model.blocks),
            'value_bias': bias is not None,
            'proj_bias': block.attn.proj.bias is not None,
            'mlp_bias': block.mlp.fc2.bias is not None,
            **_rope_config(model),
        }
    return {
        **registers,
        'qkv_bias': bias is not None,
        'use_swiglu_ffn': gated,
        'mlp_ratio': _ratio(model.embed_dims, hidden, gated),
    }


def _rope_config(model: PlainViT) -> dict[str, Any]:
    rope = model.rope
    assert rope is not None
    assert rope.periods is not None
    rounded_periods(rope.periods, rope.base)  # refuses those of no base
    return {
        'rope_theta': float(rope.base),
        'pos_embed_rescale': rope.rotary.rescale_coords,
        'pos_embed_shift': None,
        'pos_embed_jitter': None,
    }


def _embeddings(model: PlainViT, kind: str, left: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of class token, registers, patches and positions; takes them out of `left`."""
    kernel = left.pop('patch_embed.proj.weight')
    width, old = len(kernel), 'embeddings.patch_embeddings.projection'
    patches = 'embeddings.patch_embeddings' if kind == 'dinov3_vit' else old
    state = {
        'embeddings.cls_token': left.pop('cls_token'),
        f'{patches}.weight': kernel,
        f'{patches}.bias': left.pop('patch_embed.proj.bias', kernel.new_zeros(width)),
    }
    registers = left.pop('reg_token', kernel.new_zeros(1, 0, width))
    if kind == 'dinov3_vit':
        state['embeddings.register_tokens'] = registers
        state['embeddings.mask_token'] = kernel.new_zeros(1, 1, width)
        left.pop('rope.periods')
        return state
    positions = left.pop('pos_embed')
    if model.no_embed_class:
        positions = torch.cat([positions.new_zeros(1, 1, width), positions], dim=1)
    else:  # theirs gives registers none
        count = registers.shape[1]
        registers = registers + positions[:, 1 : 1 + count]
        positions = torch.cat([positions[:, :1], positions[:, 1 + count :]], dim=1)
    state['embeddings.position_embeddings'] = positions
    if kind != 'vit':
        state['embeddings.mask_token'] = kernel.new_zeros(1, width)
    if kind == 'dinov2_with_registers':
        state['embeddings.register_tokens'] = registers
    return state


def _below(left: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Take what starts with a prefix out of `left`."""
    return {key.removeprefix(prefix): left.pop(key) for key in [*left] if key.startswith(prefix)}


def _gated(mlp: nn.Module) -> bool:
    return isinstance(mlp, SwiGLU) or (isinstance(mlp, GluMlp) and not mlp.gate_last)


def _key_bias(attention: Any) -> bool:
    bias = attention.qkv.bias
    return bias is not None and bool(bias.chunk(3)[1].any())


def _activation(mlp: Any) -> str:
    """transformers' name of an MLP's activation."""
    act = mlp.act
    name = type(act).__name__
    if name == 'GELU' and getattr(act, 'approximate', 'none') == 'tanh':
        name = 'GELUTanh'
    known = {'GELU': 'gelu', 'GELUTanh': 'gelu_pytorch_tanh', 'QuickGELU': 'quick_gelu'}
    known |= {'SiLU': 'silu', 'ReLU': 'relu'}
    if name not in known or (_gated(mlp) and name != 'SiLU'):
        raise unsayable(f'the activation {name}')
    return known[name]


def _ratio(width: int, hidden: int, gated: bool) -> int:
    """The whole ``mlp_ratio`` from which DINOv2's classes make a hidden width."""
    for ratio in range(1, 33):
        made = width * ratio
        if hidden == ((made * 2 // 3 + 7) // 8 * 8 if gated else made):
            return ratio
    raise unsayable(f'a hidden width of {hidden} at {width} channels')
