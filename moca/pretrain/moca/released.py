"""MOCA's released checkpoints: their names for our tensors, and starting a run from one."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch import Tensor

from moca.checkpoints.families import tensors
from moca.checkpoints.reading import ALLOWED, read_file
from moca.engine.hooks import set_hook
from moca.engine.renamed import rename_keys
from moca.errors import UserError
from moca.pretrain.moca.method import MOCAPretrain

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
    f'{_BAG}_dist_norm_prev': 'codebook.frozen_normalizer',
    f'{_BAG}_dist_norm': 'codebook.normalizer',
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


def is_released(content: Mapping[str, Any]) -> bool:
    """Whether a file's content is a full released checkpoint, not one of its encoders alone."""
    model = content.get('model')
    return isinstance(model, Mapping) and {f'{_BAG}_embedding', *SCALES} <= tensors(model).keys()


def from_released(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a released full state dict to :class:`MOCAPretrain`'s names, without the scales.

    Raises:
        UserError: A name is no released one.
    """
    return {_rename(k, _PREFIXES): v for k, v in state.items() if k not in SCALES}


def to_released(state: Mapping[str, Tensor], kappa: float) -> dict[str, Tensor]:
    """Rename a state dict of :class:`MOCAPretrain` to the released names, with the scales.

    Raises:
        UserError: A name is none of :class:`MOCAPretrain`, or a part of it is missing.
    """
    back = {ours: theirs for theirs, ours in _PREFIXES.items()}
    state = dict(state)
    rename_keys(state)
    renamed = {_rename(key, back): value for key, value in state.items()}
    absent = [
        ours
        for theirs, ours in _PREFIXES.items()
        # the skip is an identity where the widths match
        if not ours.endswith('.skip.') and not any(key.startswith(theirs) for key in renamed)
    ]
    if absent:
        raise UserError(f'no whole MOCA model: there are no tensors {", ".join(absent[:3])} ...')
    return renamed | {name: torch.tensor([float(kappa)]) for name in SCALES}


def with_defaults(cls: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a config for a class, with the class's own defaults filled in."""
    known = inspect.signature(cls).parameters.items()
    return {name: p.default for name, p in known if p.default is not p.empty} | dict(given)


def accept_released(cfg: Config) -> None:
    """Let a pre-training config's ``load_from`` be a full released file as well as one of a run.

    The run then starts from the file's student, teacher, decoder, prototype generators and
    codebook, with a new optimizer and at step 0 of its schedules.

    Raises:
        UserError: The file cannot be read without running code from it, or its logits have
            another scale than ``model.kappa``.
    """
    if not cfg.get('load_from') or cfg.get('resume'):
        return
    if str(cfg.load_from).endswith('.safetensors'):
        raise UserError(
            f"load_from={cfg.load_from}: a whole model is a .pth of a run or of MOCA's release. To "
            'start from an encoder alone give --checkpoint.'
        )
    content = read_file(cfg.load_from)
    if not is_released(content):
        return
    kappa = float(with_defaults(MOCAPretrain, cfg.model)['kappa'])
    for name in SCALES:
        scale = float(tensors(content['model'], cfg.load_from)[name])
        if scale != kappa:
            raise UserError(
                f'{cfg.load_from}: {name} is {scale:g}, but model.kappa is {kappa:g}. '
                f'Set model.kappa={scale:g}.'
            )
    # mmengine, which knows no Namespace, would read the file again with plain pickle
    torch.serialization.add_safe_globals(ALLOWED)
    set_hook(cfg, 'released', type='ReleasedNames')


@HOOKS.register_module()
class ReleasedNames(Hook):
    """Give a released file's tensors our names as they are loaded; see :func:`accept_released`."""

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Put the renamed tensors where mmengine looks for a run's."""
        if not is_released(checkpoint):
            return
        # AtomicCheckpointHook, which comes later, compares them with the model's
        checkpoint['state_dict'] = from_released(tensors(checkpoint['model']))


def _rename(key: str, prefixes: Mapping[str, str]) -> str:
    for old, new in prefixes.items():
        if key.startswith(old):
            return new + key[len(old) :]
    raise UserError(f'{key!r} is no tensor of a MOCA checkpoint.')
