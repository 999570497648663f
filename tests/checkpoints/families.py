"""Checkpoint files as each family publishes them, made from a timm model's weights."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import MessageHub
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

State = dict[str, Tensor]


def trunk(model: VisionTransformer, prefix: str = '') -> State:
    return {prefix + key: value for key, value in model.state_dict().items()}


def mae_decoder() -> State:
    names = ('decoder_embed.weight', 'decoder_blocks.0.attn.qkv.weight', 'decoder_norm.weight')
    extra = {name: torch.ones(4, 4) for name in names}
    return {**extra, 'mask_token': torch.ones(1, 1, 4), 'decoder_pos_embed': torch.ones(1, 17, 4)}


def moca(teacher: VisionTransformer, student: VisionTransformer) -> dict[str, Any]:
    """The authors' released file: both encoders, decoder, codebook, optimizer, arguments."""
    others = (
        'encoder_pred.layers_w.0.weight',
        'decoder_pred.layers_w.0.weight',
        'bow_extractor.bow_extractor.0._embedding',
        'bow_extractor.bow_extractor.0._embedding_ptr',
        'decoder_pos_embed',
        'norm_cls_pt.weight',
        'decoder_embed_cls_pt.weight',
        'mask_token_cls_pt',
        'decoder_blocks_cls_pt.0.norm1.weight',
        'decoder_norm_cls_pt.weight',
    )
    return {
        'model': {
            **trunk(student, 'encoder.'),
            **trunk(teacher, 'encoder_teacher.'),
            **{name: torch.ones(3) for name in others},
        },
        'optimizer': {'state': {0: {'exp_avg': torch.ones(2)}}, 'param_groups': [{'lr': 1e-3}]},
        'epoch': 199,
        'args': argparse.Namespace(model='moca_vit_base_patch16', output_dir=Path('out')),
        'scaler': {'scale': 65536.0},
    }


def own_run(teacher: VisionTransformer, student: VisionTransformer) -> dict[str, Any]:
    """What mmengine's CheckpointHook writes, message hub (log history) included."""
    hub = MessageHub('families')
    for value in (0.5, 0.25):
        hub.update_scalar('train/loss', value)
    hub.update_info('iter', 2)
    return {
        'meta': {'epoch': 1, 'iter': 2, 'cfg': 'model = dict()', 'seed': 0},
        'state_dict': {
            **trunk(student, 'student.'),
            **trunk(teacher, 'teacher.'),
            'decoder.embed.weight': torch.ones(3),
        },
        'message_hub': hub.state_dict(),
        'optimizer': {'state': {}, 'param_groups': []},
    }


def moco_v3(teacher: VisionTransformer, student: VisionTransformer) -> dict[str, Any]:
    state = {
        **trunk(student, 'module.base_encoder.'),
        **trunk(teacher, 'module.momentum_encoder.'),
    }
    for encoder in ('base_encoder', 'momentum_encoder'):
        state[f'module.{encoder}.head.0.weight'] = torch.ones(4, 4)
        state[f'module.{encoder}.head.1.running_mean'] = torch.ones(4)
    state['module.predictor.0.weight'] = torch.ones(4, 4)
    return {'epoch': 300, 'arch': 'vit_base', 'state_dict': state, 'optimizer': {}}


def dino(teacher: VisionTransformer, student: VisionTransformer) -> dict[str, Any]:
    return {
        'student': {
            **trunk(student, 'module.backbone.'),
            'module.head.mlp.0.weight': torch.ones(4, 4),
        },
        'teacher': {**trunk(teacher, 'backbone.'), 'head.mlp.0.weight': torch.ones(4, 4)},
        'epoch': 100,
        'args': argparse.Namespace(arch='vit_small'),
        'dino_loss': {'center': torch.zeros(1, 4)},
    }


def ibot(teacher: VisionTransformer, student: VisionTransformer) -> dict[str, Any]:
    file = dino(teacher, student)
    file['student']['module.backbone.masked_embed'] = torch.zeros(1, 32)
    file['teacher'] = {f'module.{key}': value for key, value in file['teacher'].items()}
    return file


TWO_BRANCHES: dict[str, Callable[[VisionTransformer, VisionTransformer], dict[str, Any]]] = {
    'MOCA': moca,
    'pre-training run': own_run,
    'MoCo-v3': moco_v3,
    'DINO': dino,
    'iBOT': ibot,
}

ONE_ENCODER: dict[str, Callable[[VisionTransformer], dict[str, Any]]] = {
    'MOCA': lambda model: {'model': trunk(model)},  # teacher only
    'MAE': lambda model: {'model': {**trunk(model), **mae_decoder()}},
    'DINO': lambda model: trunk(model),
    'iBOT': lambda model: {'state_dict': {**trunk(model), 'masked_embed': torch.zeros(1, 32)}},
    'iBOT teacher': lambda model: {'state_dict': trunk(model)},
    'timm': lambda model: {**trunk(model), 'head.weight': torch.ones(5, 32)},
    'DeiT': lambda model: {'model': {**trunk(model), 'head.bias': torch.ones(5)}},
    'compiled': lambda model: {'state_dict': trunk(model, 'module._orig_mod.')},
    'segmentor': lambda model: {
        'state_dict': {**trunk(model, 'backbone.'), 'decode_head.conv_seg.weight': torch.ones(2)},
        'meta': {},
    },
}


def dinov2(model: VisionTransformer) -> State:
    """Of a timm model with LayerScale, which every DINOv2 has."""
    return {**trunk(model), 'mask_token': torch.zeros(1, model.embed_dim)}


def dinov2_registers(model: VisionTransformer) -> State:
    """A timm model without class-token positions in DINOv2's own layout.

    DINOv2 adds a position to the class token before it puts the registers in between; timm has
    that position folded into the class token.
    """
    state = trunk(model)
    position = torch.full_like(state['cls_token'], 0.25)
    return {
        **{key: value for key, value in state.items() if key != 'reg_token'},
        'cls_token': state['cls_token'] - position,
        'pos_embed': torch.cat((position, state['pos_embed']), 1),
        'register_tokens': state['reg_token'],
        'mask_token': torch.zeros(1, model.embed_dim),
    }
