"""Tiny files of families that have no library here: their names, their layout, their tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tests.checkpoints.written_out import (
    DEPTH,
    WIDTH,
    State,
    offset,
    periods,
    quick_gelu,
    resized,
    smooth,
    trunk,
    written_out,
)

IMAGENET, CLIP = 0.485, 0.48145466
"""Means of red."""


@dataclass(frozen=True)
class Published:
    """A file of a family.

    Attributes:
        state: tensors of the encoder, by their published names without what stands before them.
        tokens: prefix and patch tokens ``[B, P + N, C]`` of images, by the network written out.
        nest: the file's content, of such a state.
        family: what it is to be called.
        mean: of red.
        eps: of norms.
        config: what lies beside the file.
        branch: which to ask for.
    """

    state: State
    tokens: Callable[[Tensor], Tensor]
    nest: Callable[[State], dict[str, Any]] = dict
    family: str = 'plain ViT (timm names)'
    mean: float = IMAGENET
    eps: float = 1e-6
    config: Mapping[str, Any] = field(default_factory=dict)
    branch: str | None = None


def under(prefix: str, state: State) -> State:
    return {prefix + key: value for key, value in state.items()}


def called(state: State, *names: tuple[str, str]) -> State:
    """With other names, by plain replacement, in order."""
    out = {}
    for key, value in state.items():
        for ours, theirs in names:
            key = key.replace(ours, theirs)
        out[key] = value
    return out


HEAD = {'head.mlp.0.weight': torch.ones(4, WIDTH), 'head.mlp.0.bias': torch.ones(4)}
MASK = {'mask_token': torch.zeros(1, WIDTH)}


def plain(
    nest: Callable[[State], dict[str, Any]], family: str = '', resample: Any = None
) -> Published:
    """A ViT of timm's names in the layout of some project."""
    state = trunk()
    options = {} if resample is None else {'resample': resample}
    return Published(
        state, partial(written_out, state, **options), nest, family or 'plain ViT (timm names)'
    )


def mae(state: State) -> dict[str, Any]:
    decoder = {
        'decoder_embed.weight': torch.ones(4, WIDTH),
        'decoder_pos_embed': torch.ones(1, 17, 4),
    }
    return {'model': {**state, **decoder, 'mask_token': torch.ones(1, 1, 4)}, 'epoch': 1}


def two(first: tuple[str, str], second: tuple[str, str]) -> Callable[[State], dict[str, Any]]:
    """An encoder at the first place, an entry and a prefix, and another one at the second."""

    def nest(state: State) -> dict[str, Any]:
        other = {key: value + 1 for key, value in state.items()}
        content: dict[str, Any] = {first[0]: {}, second[0]: {}}
        content[first[0]] |= under(first[1], state) | HEAD
        content[second[0]] |= under(second[1], other)
        return content

    return nest


def dinov2(registers: int = 0, gated: bool = False) -> Published:
    """DINOv2's and Franca's own names; registers have no position."""
    state = trunk(registers=registers, scale=True, gated=gated)
    resample = smooth if registers else offset
    names = [('reg_token', 'register_tokens')]
    published = called(state, *names) | MASK
    if gated:  # gate and value in one layer: w12
        for index in range(DEPTH):
            for part in ('weight', 'bias'):
                mlp = f'blocks.{index}.mlp.'
                halves = [published.pop(f'{mlp}{name}.{part}') for name in ('w1', 'w2')]
                published[f'{mlp}w12.{part}'] = torch.cat(halves)
    return Published(published, partial(written_out, state, resample=resample), family='DINOv2')


def tipsv2() -> Published:
    """TIPSv2's image tower: DINOv2's names, one register, images as they are; text is beside."""
    state = trunk(registers=1, scale=True)
    published = called(state, ('reg_token', 'register_tokens')) | MASK
    text = {'text_encoder.token_embedding.weight': torch.ones(9, 16)}
    return Published(
        published,
        partial(written_out, state, resample=partial(resized, mode='bilinear', antialias=True)),
        lambda state: under('vision_encoder.', state) | text,
        'TIPSv2',
        mean=0.0,
    )


def chunked(state: State) -> State:
    """Blocks in chunks of one, whose numbers run on."""
    names = [(f'blocks.{index}.', f'blocks.{index}.{index}.') for index in range(DEPTH)]
    return called(state, *names)


def in_training(state: State) -> dict[str, Any]:
    heads = {f'{name}.mlp.0.weight': torch.ones(4, WIDTH) for name in ('dino_head', 'ibot_head')}
    return {'teacher': {**under('backbone.', chunked(state)), **heads}}


def dinov3(gated: bool = False, bias: bool = True, masked: bool = True) -> Published:
    """DINOv3's own names, with a bias of keys that a mask takes away, and rounded periods."""
    state = trunk(positions=False, registers=4, scale=True, gated=gated, bias=bias)
    state['periods'] = periods()
    if bias and masked:
        mask = torch.ones(3, WIDTH)
        mask[1] = 0
        state |= {f'blocks.{i}.attn.qkv.bias_mask': mask.flatten() for i in range(DEPTH)}
    names = [('reg_token', 'storage_tokens'), ('periods', 'rope_embed.periods')]
    published = called(state, *names) | MASK
    tokens = partial(written_out, state, eps=1e-5)
    return Published(published, tokens, family='DINOv3', eps=1e-5)


def nested(
    published: Published, nest: Callable[[State], dict[str, Any]], branch: str | None = None
) -> Published:
    return replace(published, nest=nest, branch=branch)


def mmpretrain(nest: Callable[[State], dict[str, Any]], *names: tuple[str, str]) -> Published:
    state = trunk()
    published = called(
        state,
        *(('patch_embed.proj.', 'patch_embed.projection.'), ('blocks.', 'layers.')),
        *(('.norm', '.ln'), ('norm.', 'ln1.')),
        *(('mlp.fc1.', 'ffn.layers.0.0.'), ('mlp.fc2.', 'ffn.layers.1.')),
        *names,
    )
    return Published(published, partial(written_out, state), nest, 'mmpretrain or mmseg')


# mmseg's attention is mmcv's MultiheadAttention around torch's
MMSEG = (
    *(('attn.qkv.weight', 'attn.attn.in_proj_weight'), ('attn.qkv.bias', 'attn.attn.in_proj_bias')),
    ('attn.proj.', 'attn.attn.out_proj.'),
)


def openai_clip(quick: bool) -> Published:
    """OpenCLIP's tower: a norm before the blocks, no bias of patches; text is beside."""
    state = trunk()
    state['norm_pre.weight'] = 1 + 0.1 * state.pop('patch_embed.proj.bias')
    state['norm_pre.bias'] = 0.1 * state['norm.bias']
    act: dict[str, Any] = {'act': quick_gelu} if quick else {}
    published = called(
        state,
        *(
            ('patch_embed.proj.', 'conv1.'),
            ('norm_pre', 'ln_pre'),
            ('blocks.', 'transformer.resblocks.'),
        ),
        *(
            ('.norm', '.ln_'),
            ('norm.', 'ln_post.'),
            ('mlp.fc1', 'mlp.c_fc'),
            ('mlp.fc2', 'mlp.c_proj'),
        ),
        *(('attn.qkv.', 'attn.in_proj_'), ('attn.proj.', 'attn.out_proj.')),
        *(('pos_embed', 'positional_embedding'), ('cls_token', 'class_embedding')),
    )
    published['class_embedding'] = published['class_embedding'].flatten()
    published['positional_embedding'] = published['positional_embedding'][0]
    published['proj'] = torch.ones(WIDTH, 16)
    text = {'token_embedding.weight': torch.ones(9, 16), 'logit_scale': torch.ones(())}
    return Published(
        published,
        partial(written_out, state, resample=smooth, eps=1e-5, **act),
        lambda state: under('visual.', state) | text,
        'OpenCLIP',
        CLIP,
        1e-5,
        {'model_cfg': {'quick_gelu': quick, 'vision_cfg': {'head_width': 64}}},
    )


def msn(state: State) -> dict[str, Any]:
    other = {key: value + 1 for key, value in state.items()}
    return {'target_encoder': under('module.', state), 'encoder': under('module.', other)}


_LIGHTLY = 'embedding_model.wrapped_model._model.'

PUBLISHED: dict[str, Callable[[], Published]] = {
    'MAE': lambda: plain(mae, 'MAE'),
    'MAE, its encoder': lambda: plain(lambda state: {'model': state}),
    'DeiT': lambda: plain(
        lambda state: {'model': state | {'head.weight': torch.ones(5, WIDTH)}}, '', smooth
    ),
    'MOCA': lambda: plain(two(('model', 'encoder_teacher.'), ('model', 'encoder.')), 'MOCA'),
    'a run': lambda: plain(
        two(('state_dict', 'teacher.'), ('state_dict', 'student.')), 'pre-training run'
    ),
    'DINO': lambda: plain(
        two(('teacher', 'backbone.'), ('student', 'module.backbone.')), 'DINO or iBOT', offset
    ),
    'DINO, its backbone': lambda: plain(dict, '', offset),
    'iBOT': lambda: plain(
        lambda state: {'state_dict': state | {'masked_embed': torch.zeros(1, WIDTH)}},
        'iBOT',
        offset,
    ),
    'MoCo-v3': lambda: plain(
        two(('state_dict', 'module.base_encoder.'), ('state_dict', 'module.momentum_encoder.')),
        'MoCo-v3',
    ),
    'MSN or I-JEPA': lambda: plain(msn, 'MSN or I-JEPA'),
    'solo-learn': lambda: plain(
        two(('state_dict', 'backbone.'), ('state_dict', 'momentum_backbone.')), 'solo-learn'
    ),
    'DINOv2': dinov2,
    'DINOv2 with registers': lambda: dinov2(registers=4),
    'DINOv2 giant': lambda: nested(dinov2(gated=True), chunked),
    'DINOv2 in training': lambda: nested(dinov2(registers=4), in_training),
    'Franca': lambda: nested(dinov2(gated=True), in_training),
    'lightly-train': lambda: nested(
        dinov2(),
        two(('state_dict', f'teacher_{_LIGHTLY}'), ('state_dict', f'student_{_LIGHTLY}')),
        'teacher',
    ),
    'TIPSv2': tipsv2,
    'DINOv3': dinov3,
    'DINOv3 7B': lambda: dinov3(gated=True, bias=False),
    'DINOv3 in training': lambda: nested(dinov3(), in_training),
    'EUPE': lambda: nested(
        dinov3(), lambda state: state | {'projectors.a.0.weight': torch.ones(4, WIDTH)}
    ),
    'LingBot-Vision': lambda: nested(dinov3(), lambda state: {'backbone': state}),
    'LingBot-Vision giant': lambda: nested(dinov3(gated=True), partial(under, 'backbone.')),
    'mmpretrain': lambda: mmpretrain(
        lambda state: {'state_dict': under('backbone.', state) | HEAD}
    ),
    'mmseg': lambda: mmpretrain(lambda state: {'state_dict': under('backbone.', state)}, *MMSEG),
    'OpenCLIP': lambda: openai_clip(quick=False),
    'OpenAI CLIP': lambda: openai_clip(quick=True),
}
"""By family; each builds its file anew."""
