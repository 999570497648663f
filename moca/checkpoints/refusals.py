"""Networks that are no plain ViT, and tensors that act on tokens in a way that is not known."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

# What only these networks have, as a pattern of a key, and what to say of each.
_OTHERS = (
    (r'dist_token$', 'a distilled DeiT, whose second class token every block sees'),
    (r'layers\.\d+\.blocks\.\d+\..*relative_position', 'a Swin Transformer'),
    (r'relative_position_bias_table|rel_pos_bias\.', 'BEiT or a kin, with a bias of positions'),
    (r'stages\.\d+\.((blocks|layers)\.)?\d+\.(dwconv|conv_dw|depthwise_conv)', 'a ConvNeXt'),
    (r'lora_[AB]\.|lora_(down|up)\.', 'a LoRA adapter alone; merge it into its base model first'),
    (r'(^|\.)attn_pool\.probe$', "Perception Encoder under its authors' names; take timm's file"),
    (r'blocks\.\d+\.attn\.w[qkv]\.', 'Sapiens2, whose queries share keys'),
    (r'modality_encoders\.', 'data2vec 2.0, whose norms follow the branches'),
    (r'_flat_param', 'one share of a network that FSDP had split; save its full state dict'),
    (r'^cls_norm\.', 'DINOv3 with a norm of its own for the class token'),
)
_PATCHES = re.compile(r'(patch_embed(ding)?s?(\.proj(ection)?)?|conv1)\.weight$')
_TEXT = re.compile(r'token_embedding\.weight|text_model\.|^text\.')
_ACTING = re.compile(r'(^|[._])(rope|rotary|freqs|periods|pos|position)s?(_|\.|$)')
_QUANTIZED = re.compile(r'\.(qweight|qzeros|SCB|quant_state|weight_scale)')


def other_network(state: Mapping[str, Tensor]) -> str | None:
    """Name the network and what to do, if a state dict is of one known not to fit; else None."""
    for pattern, what in _OTHERS:
        found = next((key for key in state if re.search(pattern, key)), None)
        if found:
            return (
                f'{what} ({found}). That is no plain ViT, and leaving it out would change every '
                'token. Use weights of a plain ViT.'
            )
    for key, value in state.items():
        if _PATCHES.search(key) and value.ndim == 5:
            return (
                f'a ViT of videos or volumes (its patches are {list(value.shape[2:])}). Use '
                'weights of images.'
            )
        if _QUANTIZED.search(key):
            return f'quantized weights ({key}). Use the weights before that.'
    if not any('patch' in key or 'conv1' in key for key in state) and any(map(_TEXT.search, state)):
        return 'a text tower alone. Use the file with the vision tower.'
    return None


def acting_strangers(strangers: Mapping[str, Tensor], width: int) -> str | None:
    """Name tensors beside the blocks that may act on tokens; None if there are none.

    Args:
        strangers: under the encoder's prefix, of no known part of it and of no known head.
        width: of the tokens. What has no such dimension, and no name of positions, cannot act on
            them.
    """
    acting = [k for k, value in strangers.items() if width in value.shape or _ACTING.search(k)]
    if acting:
        return (
            f'{acting[0]} {list(strangers[acting[0]].shape)} stands beside the blocks and is not '
            f'understood ({len(acting)} of its kind). It may act on the tokens, so that the '
            'features would be others without it. If it does not, remove it from the file.'
        )
    return None
