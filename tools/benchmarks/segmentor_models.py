"""mmseg's own segmentor of the same function as ours: what ours is measured against."""

from __future__ import annotations

import copy
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from mmseg.models.segmentors import EncoderDecoder
from timm.layers import Attention, LayerScale, Mlp
from torch import Tensor, nn

from moca.backbone import PlainViT
from moca.segmentation.encoder_decoder import LeanEncoderDecoder

_OUR_FIELDS = ('windows', 'keep_logits')  # of test_cfg


def mmseg_segmentor(cfg: Config, ours: LeanEncoderDecoder, own_backbone: bool) -> EncoderDecoder:
    """mmseg's `EncoderDecoder` with mmseg's heads and a copy of the weights of our segmentor.

    Args:
        cfg: the config that ours was built from.
        ours: gives the weights.
        own_backbone: take mmseg's `VisionTransformer` (for which `what_mmseg_lacks` has to be
            None), else a `PlainViT` as well. Layer scales become part of the weights before them.
    """
    model = copy.deepcopy(cfg.model)
    model.type = 'mmseg.EncoderDecoder'
    for head in (model.decode_head, model.get('auxiliary_head')):
        if isinstance(head, dict) and head['type'] == 'LeanUPerHead':
            head['type'] = 'mmseg.UPerHead'
    for field in _OUR_FIELDS:
        model.test_cfg.pop(field, None)
    state = ours.state_dict()
    if own_backbone:
        vit = ours.backbone
        model.backbone = _backbone_config(vit, model.backbone.get('drop_path_rate', 0.0))
        state = {k: v for k, v in state.items() if not k.startswith('backbone.')}
        state |= {f'backbone.{k}': v for k, v in _backbone_state(vit).items()}
    else:
        model.backbone.init_cfg = None
    theirs = MODELS.build(model)
    theirs.load_state_dict(state)
    if ours.backbone.frozen:
        theirs.backbone.requires_grad_(False)
    return theirs


def what_mmseg_lacks(vit: PlainViT) -> str | None:
    """Why mmseg's `VisionTransformer` cannot be of the function of a ViT; None if it can."""
    lacking = {
        'register tokens': vit.reg_token is not None,
        'a ViT without class token': vit.cls_token is None,
        'positions for patches alone': vit.pos_embed is None or vit.no_embed_class,
        'a norm before the blocks': not isinstance(vit.norm_pre, nn.Identity),
        'the final norm on several maps': vit.final_norm
        and vit.out_indices != (vit.num_layers - 1,),
        'blocks of this kind': not all(map(_is_plain, vit.blocks)),
    }
    return next((feature for feature, is_used in lacking.items() if is_used), None)


def _is_plain(block: Any) -> bool:
    scales = [m for m in (block.ls1, block.ls2) if not isinstance(m, nn.Identity)]
    return (
        type(block.attn) is Attention
        and isinstance(block.attn.q_norm, nn.Identity)
        and type(block.mlp) is Mlp
        and isinstance(block.mlp.act, nn.GELU)
        and block.mlp.fc1.out_features % block.mlp.fc1.in_features == 0
        and all(isinstance(scale, LayerScale) for scale in scales)
    )


def _backbone_config(vit: PlainViT, drop_path_rate: float) -> dict[str, Any]:
    block: Any = vit.blocks[0]
    return dict(
        type='mmseg.VisionTransformer',
        img_size=tuple(side * vit.patch_size for side in vit.grid),
        patch_size=vit.patch_size,
        patch_bias=vit.patch_embed.proj.bias is not None,
        embed_dims=vit.embed_dims,
        num_layers=vit.num_layers,
        num_heads=block.attn.num_heads,
        mlp_ratio=block.mlp.fc1.out_features // vit.embed_dims,
        qkv_bias=block.attn.qkv.bias is not None,
        out_indices=vit.out_indices,
        final_norm=vit.final_norm,
        drop_path_rate=drop_path_rate,
        norm_cfg=dict(type='LN', eps=block.norm1.eps),
        interpolate_mode=vit.interpolation or 'bicubic',
    )


@torch.no_grad()
def _backbone_state(vit: PlainViT) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}

    def put(name: str, module: Any, scale: Any = None, separator: str = '.') -> None:
        for kind in ('weight', 'bias'):
            value = getattr(module, kind)
            if value is not None and isinstance(scale, LayerScale):
                value = (value.T * scale.gamma).T  # a weight's rows are its outputs
            if value is not None:
                state[f'{name}{separator}{kind}'] = value

    for name in ('cls_token', 'pos_embed'):
        state[name] = getattr(vit, name)
    put('patch_embed.projection', vit.patch_embed.proj)
    for number, block in enumerate(vit.blocks):
        layer = f'layers.{number}'
        put(f'{layer}.ln1', block.norm1)
        put(f'{layer}.attn.attn.in_proj', block.attn.qkv, separator='_')
        put(f'{layer}.attn.attn.out_proj', block.attn.proj, block.ls1)
        put(f'{layer}.ln2', block.norm2)
        put(f'{layer}.ffn.layers.0.0', block.mlp.fc1)
        put(f'{layer}.ffn.layers.1', block.mlp.fc2, block.ls2)
    if vit.final_norm:
        put('ln1', vit.norm)
    return state
