"""Names of MOCA's released checkpoints, and ours for the same tensors."""

from __future__ import annotations

from torch import Tensor

_GENERATOR = 'layers_w.0.generator.b0_'
_BAG = 'bow_extractor.bow_extractor.0.'

# Released prefix -> ours. No prefix is the start of another one further down.
_PREFIXES = {
    'encoder.': 'student.',
    'encoder_teacher.': 'teacher.',
    f'encoder_pred.{_GENERATOR}fc.': 'image_prototypes.fc.',
    f'encoder_pred.{_GENERATOR}bn.': 'image_prototypes.bn.',
    f'encoder_pred.{_GENERATOR}last_layer.': 'image_prototypes.out.',
    'encoder_pred.layers_w.0.skip.': 'image_prototypes.skip.',
    f'decoder_pred.{_GENERATOR}fc.': 'dense_prototypes.fc.',
    f'decoder_pred.{_GENERATOR}bn.': 'dense_prototypes.bn.',
    f'decoder_pred.{_GENERATOR}last_layer.': 'dense_prototypes.out.',
    'decoder_pred.layers_w.0.skip.': 'dense_prototypes.skip.',
    f'{_BAG}_embedding_ptr': 'codebook.pointer',
    f'{_BAG}_embedding': 'codebook.words',
    f'{_BAG}_dist_norm_prev': 'codebook.frozen_normaliser',
    f'{_BAG}_dist_norm': 'codebook.normaliser',
    f'{_BAG}_track_num_batches': 'codebook.updates',
    'decoder_pos_embed': 'decoder.pos_embed',
    'norm_cls_pt.': 'decoder.norm_in.',
    'decoder_embed_cls_pt.': 'decoder.embed.',
    'mask_token_cls_pt': 'decoder.mask_token',
    'decoder_blocks_cls_pt.': 'decoder.blocks.',
    'decoder_norm_cls_pt.': 'decoder.norm.',
}
# kappa, a setting of ours and two one-element tensors of theirs.
SCALES = ('encoder_pred.scale', 'decoder_pred.scale')


def from_released(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename a released full state dict to :class:`MOCAPretrain`'s names, without the scales."""
    return {_rename(k, _PREFIXES): v for k, v in state.items() if k not in SCALES}


def to_released(state: dict[str, Tensor], kappa: float) -> dict[str, Tensor]:
    """Rename a state dict of :class:`MOCAPretrain` to the released names."""
    back = {ours: theirs for theirs, ours in _PREFIXES.items()}
    renamed = {_rename(key, back): value for key, value in state.items()}
    return renamed | {name: next(iter(state.values())).new_tensor([kappa]) for name in SCALES}


def _rename(key: str, prefixes: dict[str, str]) -> str:
    for old, new in prefixes.items():
        if key.startswith(old):
            return new + key[len(old) :]
    raise KeyError(f'{key!r} is no tensor of a MOCA checkpoint.')
