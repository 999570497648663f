"""Export a run: an encoder for others' tools, or the whole in MOCA's released format."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from moca.backbone.arch import ArchSpec, timm_arguments
from moca.checkpoints.changes import changed
from moca.checkpoints.encoder import Encoder, fitting_archs
from moca.checkpoints.export import (
    check_target,
    choose_encoder,
    export_notes,
    torch_bytes,
    write_encoder,
    write_file,
)
from moca.checkpoints.families import tensors
from moca.checkpoints.info import describe
from moca.checkpoints.model_folder import export_folder
from moca.checkpoints.reading import read_file, run_config
from moca.engine.hooks import find_hook
from moca.errors import UserError
from moca.pretrain.moca.method import MOCAPretrain
from moca.pretrain.moca.released import (
    SCALES,
    from_released,
    is_released,
    to_released,
    with_defaults,
)
from moca.pretrain.training.schedule import PretrainSchedule

# What `--to` takes, and how the files are named; transformers has a folder.
FORMATS = {'timm': '.pth', 'moca': '.pth', 'safetensors': '.safetensors', 'transformers': ''}

# The released code's option -> where our config has its value.
_MODEL_OPTIONS = {
    'inv_delta': 'inv_delta',
    'num_words': 'num_words',
    'num_new_words': 'words_per_step',
    'kappa': 'kappa',
    'img_weight': 'image_weight',
    'loc_weight': 'dense_weight',
    'early_layer': 'early_layer',
    'pred_mlp_ratio': 'generator_mlp_ratio',
    'mask_ratio': 'mask_ratio',
    'dec_mask_ratio': 'decoder_mask_ratio',
}
_OTHER_OPTIONS = {
    'input_size': 'model.backbone.img_size',
    'seed': 'randomness.seed',
    'batch_size': 'train_dataloader.batch_size',
    'accum_iter': 'optim_wrapper.accumulative_counts',
    'max_epochs': 'train_cfg.max_epochs',
    'weight_decay': 'optim_wrapper.optimizer.weight_decay',
    'clip_grad': 'optim_wrapper.clip_grad.max_norm',
    'lr_wgen': 'optim_wrapper.paramwise_cfg.constant_lr.image_prototypes',
}
_SCHEDULE_OPTIONS = {
    'blr': 'base_lr',
    'warmup_epochs': 'warmup_epochs',
    'lr_epochs_mul': 'stretch',
    'weight_decay_end': 'final_weight_decay',
    'alpha': 'momentum',
}


def export(
    run: str | Path,
    source: str | Path,
    target: str | Path | None = None,
    *,
    branch: str | None = None,
    to: str | None = None,
    arch: ArchSpec | None = None,
    trust: bool = False,
    force: bool = False,
    license: str | None = None,
    **changes: Any,
) -> str:
    """Write a checkpoint, or one of its encoders, for other tools to read.

    Args:
        run: What the user named, a work dir or a file; a file without a name is named after it.
        source: The checkpoint file itself.
        target: File to write; beside ``run`` and named after it where left out.
        branch: ``teacher`` or ``student``; None takes the family's default, except that
            ``to='moca'`` then writes the whole.
        to: ``timm`` (``.pth``, one encoder), ``safetensors`` (one encoder) or ``moca`` (the
            released format: all of a MOCA run, or with ``branch`` one encoder) or ``transformers``
            (one encoder, a folder). None goes by the suffix of ``target``; safetensors where there
            is none.
        arch: For transformers, where neither the file nor its tensors tell the architecture.
        trust: Read the source with plain pickle.
        force: Write over a file that exists.
        license: For transformers' model card, such as ``apache-2.0``.
        changes: Of an encoder: ``patch``, ``mean`` and ``std`` of
            :func:`moca.checkpoints.changes.changed`.

    Returns:
        What was written where, in a line.

    Raises:
        UserError: The source cannot be read or lacks what is asked for, the target exists, or
            its suffix and ``to`` contradict each other or leave the format open.
    """
    to = to or _format_of(target, branch)
    if to == 'transformers':
        if target is None:
            raise UserError('--to transformers: give the folder to write.')
        how: dict[str, Any] = dict(branch=branch, arch=arch, trust=trust, force=force)
        return export_folder(source, target, license=license, **how, **changes)
    if license is not None:
        raise UserError(f'--license: only --to transformers has a card for it, not {to}.')
    if arch is not None:
        raise UserError(f'--arch: only --to transformers takes it, not {to}. Leave it out.')
    if changes and to == 'moca' and branch is None:
        raise UserError(
            '--patch, --mean and --std change one encoder, and --to moca writes the whole run. '
            'Give --branch, or another format.'
        )
    if target is not None:  # before anything is read
        check_target(target, source, (FORMATS[to],), force)
    content = read_file(source, trust)
    encoder = None if to == 'moca' and branch is None else choose_encoder(content, source, branch)
    if target is None:
        what = 'moca' if encoder is None else encoder.notes.get('branch', encoder.branch)
        target = _beside(run, what, FORMATS[to])
        check_target(target, source, (FORMATS[to],), force)
    if encoder is not None:
        encoder = changed(encoder, source, **changes)
    if encoder is None:
        write_file(target, torch_bytes(released_content(content, source)))
        return f'{target}: the whole of {source} in the format of the released MOCA checkpoints'
    said = write_encoder(encoder, export_notes(content, source, encoder), target)
    line = load_line(encoder, target)
    return f'{target}: {describe(source, encoder)}, from {source}. {said}' + (
        f'\nLoad it by: {line}' if line else ''
    )


def load_line(encoder: Encoder, path: str | Path) -> str | None:
    """The line of Python by which timm loads an encoder that was written under its names.

    Args:
        encoder: What was written.
        path: Where.

    Returns:
        None for an architecture that has no name, or whose positions are rotary.
    """
    info = describe(path, encoder)
    names = (info.arch, *fitting_archs(encoder))
    arch = next((name for name in names if isinstance(name, str)), None)
    if arch is None or not info.num_positions:
        return None
    name, settings = timm_arguments(arch)
    if info.grid is not None:
        size: Any = tuple(side * info.patch_size for side in info.grid)
    else:  # the class token's row is less than one
        size = math.isqrt(info.num_positions) * info.patch_size
    own = ''.join(f', {key}={value}' for key, value in settings.items())
    return (
        f'timm.create_model({name!r}{own}, img_size={size}, num_classes=0, '
        f'checkpoint_path={str(path)!r})'
    )


def released_content(content: Mapping[str, Any], source: str | Path) -> dict[str, Any]:
    """A full checkpoint as MOCA's authors release them.

    Of a run of ours: ``model`` under the released names, ``epoch`` counted from 0, ``args`` (an
    ``argparse.Namespace`` of the released code's options), ``scaler`` (the loss scale of a float16
    run, else a fresh one). There is no ``optimizer``: its state is listed by the order of the
    parameters in another program; the released code starts a new one where a file has none. A
    released file keeps all its entries. ``meta`` is ours.

    Args:
        content: What :func:`moca.checkpoints.reading.read_file` returned.
        source: The file, for messages.

    Raises:
        UserError: It is neither a released file nor a checkpoint of a MOCA run.
    """
    meta = export_notes(content, source, None)
    if is_released(content):
        state = tensors(content['model'], source)
        scales = {name: state[name] for name in SCALES}
        model = to_released(from_released(state), kappa=0.0) | scales
        return {**content, 'model': model, 'meta': meta}
    cfg = run_config(content)
    settings = with_defaults(MOCAPretrain, cfg.get('model', {}))
    try:
        model = to_released(tensors(content.get('state_dict', {})), settings['kappa'])
    except UserError as error:
        raise UserError(
            f'{source}: {error} Only a run of MOCAPretrain can be written as a whole; '
            'give --branch to write its encoder alone.'
        ) from error
    scaler = content.get('optimizer', {}).get('loss_scaler')
    return {
        'model': model,
        'epoch': content.get('meta', {}).get('epoch', 0) - 1,
        'args': argparse.Namespace(**released_options(cfg)),
        'scaler': scaler or torch.amp.GradScaler('cpu').state_dict(),
        'meta': meta,
    }


def released_options(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """A run's settings as options of the released code, which calls the ViT-B model
    ``moca_vit_base_patch16_dec2``; what the config does not say is left out.

    ``num_new_words`` is ours, over all processes; the released code's number would be 8 times as
    large for the same effect on 8 GPUs.
    """
    model = with_defaults(MOCAPretrain, cfg.get('model', {}))
    options = {theirs: model[ours] for theirs, ours in _MODEL_OPTIONS.items()}
    options |= {theirs: _find(cfg, path) for theirs, path in _OTHER_OPTIONS.items()}
    if found := find_hook(cfg, 'PretrainSchedule'):
        schedule = with_defaults(PretrainSchedule, found[1])
        options |= {theirs: schedule[ours] for theirs, ours in _SCHEDULE_OPTIONS.items()}
    arch, depth = _find(cfg, 'model.backbone.arch'), _find(cfg, 'model.decoder.depth')
    if isinstance(arch, str):
        options['model'] = f'moca_{arch}_dec{depth or 2}'
    options = {key: list(v) if isinstance(v, tuple) else v for key, v in options.items()}
    known = {key: value for key, value in options.items() if value is not None}
    # the image feature is the mean of the patch tokens; the released code has this as an option
    return {**known, 'avg_pooling': True, 'alpha_cos': True}


def _format_of(target: str | Path | None, branch: str | None) -> str:
    if target is None or Path(target).suffix == '.safetensors':
        return 'safetensors'
    if Path(target).suffix == '.pth' and branch is None:
        raise UserError(
            f'{target}: say --to timm for one encoder (--branch says which), or --to moca for '
            'all of a MOCA run in the released format.'
        )
    return 'timm'  # with a branch, moca writes the same


def _beside(run: str | Path, what: str, suffix: str) -> Path:
    """``work_dirs/RUN`` gives ``work_dirs/RUN_teacher.pth``, ``RUN/epoch_9.pth`` the like."""
    path = Path(os.path.abspath(run))
    stem = path.name if path.is_dir() else path.stem
    return path.with_name(f'{stem}_{what}{suffix}')


def _find(cfg: Any, path: str) -> Any:
    for key in path.split('.'):
        cfg = cfg.get(key) if isinstance(cfg, Mapping) else None
    return cfg
