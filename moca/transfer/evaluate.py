"""Testing a run's checkpoint, all of whose weights have to fit."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel
from mmengine.runner import Runner

from moca.backbone.arch import vit_dimensions
from moca.checkpoints.changes import changes_of
from moca.checkpoints.loading import AUTO, arch_of_file, check_checkpoint, set_checkpoint
from moca.checkpoints.reading import read_file, run_config
from moca.checkpoints.run_names import checkpoint_label
from moca.data.survey import check_data
from moca.engine.checkpoints import check_fit
from moca.engine.cli import apply_common
from moca.engine.wrapped import unwrapped
from moca.errors import UserError
from moca.records.run_json import TEST_FOLDER, TESTED
from moca.records.whole_files import write_atomically
from moca.transfer.overrides import THE_RUN, set_arch, set_statistics
from moca.transfer.predictions import predict_without_labels, set_predictions
from moca.transfer.run import check_of_model, model_class, protocol_config
from moca.transfer.run_record import file_digest, kinds_of, percent_metrics
from moca.transfer.tta import set_tta


def prepare_test(args: argparse.Namespace) -> Config:
    """Check config, checkpoint and data of ``tools/test.py``.

    Raises:
        UserError: naming what is wrong in the first of the three that has a fault.
    """
    cfg = protocol_config(args)
    content = read_file(args.checkpoint)
    run = run_config(content)
    if not run and hasattr(model_class(cfg), 'set_published'):
        return prepare_published(cfg, args)
    if args.variant:
        set_variant(cfg, args.variant, args.checkpoint)
    if given := [f'--{field}'.replace('_', '-') for field in changes_of(args)]:
        raise UserError(
            f'{", ".join(given)}: for published files and backbones, and {args.checkpoint} is of a '
            'run, which has its own. Leave it out.'
        )
    if getattr(args, 'backbone', None):
        raise UserError(
            f'--backbone: {args.checkpoint} is of a run, which has its own. Leave it out.'
        )
    if args.arch == AUTO:
        raise UserError(f'--arch {AUTO}: a run has its own; name the config in its work dir.')
    run_weights(content, args.checkpoint)
    cfg.work_dir = str(Path(args.checkpoint).parent / TEST_FOLDER)
    apply_common(cfg, args)
    set_checkpoint(cfg, None)  # all weights come from the run
    # of the config beside a run that was resumed: it would be loaded over them
    cfg.load_from, cfg.resume = None, False
    take_from_run(cfg, run)
    if cfg.protocol.task == 'segmentation':
        predict_without_labels(cfg)
        set_predictions(cfg, ['test'])
    check_data(cfg, splits=('test',))
    meta = (content.get('meta') or {}).get('dataset_meta') if cfg.protocol.task == 'image' else None
    check_of_model(cfg, ('test',), classes=(meta or {}).get('classes'))
    if args.tta:
        set_tta(cfg)
    return cfg


def set_variant(cfg: Config, variant: str, checkpoint: str) -> None:
    """Test on another set of images of the same classes, which the model knows about.

    Raises:
        UserError: it knows of none, or not of this one.
    """
    cls = model_class(cfg)
    if not hasattr(cls, 'set_variant'):
        raise UserError(
            f'--variant {variant}: for classifiers of ImageNet, and {cfg.filename} trains none. '
            'Leave it out.'
        )
    cls.set_variant(cfg, variant, checkpoint)


def prepare_published(cfg: Config, args: argparse.Namespace) -> Config:
    """Have a config test a model that others have trained, which its own class can read.

    Args:
        cfg: of the protocol; changed.
        args: of ``tools/test.py``.

    Raises:
        UserError: the file holds none, or not of the config's architecture or classes.
    """
    if args.tta:
        raise UserError(f'--tta: {cfg.filename} has no scales and flips to average. Leave it out.')
    classes = set_published_model(
        cfg,
        args.checkpoint,
        args.backbone,
        args.arch,
        bool(getattr(args, 'trust', False)),
        **changes_of(args),
    )
    if args.variant:  # of the published head, which has made no choice among several
        set_variant(cfg, args.variant, args.checkpoint)
    if not args.work_dir:
        cfg.work_dir = str(
            Path('work_dirs', cfg.protocol.name, checkpoint_label(args.checkpoint), TEST_FOLDER)
        )
    apply_common(cfg, args)
    if cfg.protocol.task != 'image':
        check_data(cfg, splits=('test',))
    check_of_model(cfg, ('test',), classes=classes)
    return cfg


def set_published_model(
    cfg: Config,
    path: str,
    backbone: str | None = None,
    arch: str | None = None,
    trust: bool = False,
    **changes: Any,
) -> Any:
    """Have a config's model start from what others have trained, backbone and head.

    Args:
        cfg: of the protocol; changed.
        path: the file.
        backbone: ViT that a published linear head stands on; None for the file itself.
        arch: ``auto`` for the architecture of the file.
        trust: read with plain pickle.
        changes: of :func:`moca.checkpoints.changes.changed`.

    Returns:
        What the model's ``set_published`` says: its classes, where the file has them.

    Raises:
        UserError: the file holds none, or not of the config's architecture.
    """
    source = backbone or path
    how: dict[str, Any] = dict(trust=trust, **changes)
    if arch == AUTO:
        set_arch(cfg, arch_of_file(source, **how))
    vit = cfg.model.backbone
    width = vit_dimensions(vit.arch).embed_dim
    classes = model_class(cfg).set_published(cfg, path, width, backbone)
    set_checkpoint(cfg, source, trust=trust, changes=changes)
    info = check_checkpoint(source, vit.arch, img_size=vit.get('img_size'), **how)
    set_statistics(cfg, info.mean, info.std, info.normalized_by)
    return classes


def take_from_run(cfg: Config, run: Mapping[str, Any]) -> None:
    """Take what a run's checkpoint told it and its weights do not: resampling, eps, normalization.

    Args:
        cfg: of the test; the resampling and eps that it names itself stay. It is changed.
        run: the config of the run.

    Raises:
        UserError: it names a normalization that the weights were not trained with.
    """
    model = run.get('model') or {}
    backbone = model.get('backbone') or {}
    if backbone and 'interpolation' not in backbone:
        print_log(
            'The run is of an earlier version: positions are resampled with antialiasing, as then.',
            'current',
        )
        backbone = {**backbone, 'interpolation': 'bicubic-antialias'}
    for field in ('interpolation', 'norm_eps'):
        if cfg.model.backbone.get(field) is None and backbone.get(field) is not None:
            cfg.model.backbone[field] = backbone[field]
    preprocessor, own = model.get('data_preprocessor') or {}, cfg.model.get('data_preprocessor')
    if own is None or not {'mean', 'std'} <= preprocessor.keys():
        return
    mean, std = ([value / 255 for value in preprocessor[field]] for field in ('mean', 'std'))
    set_statistics(cfg, mean, std, THE_RUN)


def evaluate(cfg: Config, checkpoint: str | Path) -> dict[str, float | None]:
    """Test a model with the weights of a run; returns metrics in percent, and keeps them.

    They are `TESTED` in the work dir.

    Raises:
        CheckpointMismatch: if the file's weights are not exactly those of the model.
    """
    runner = Runner.from_cfg(cfg)
    if cfg.model.get('head_from'):
        model: Any = runner.model
        unwrapped(model).init_weights()
    else:
        load_run(runner.model, checkpoint)
    metrics = percent_metrics(runner.test(), cfg.protocol.task, kinds_of(cfg.test_evaluator))
    _keep(cfg, Path(checkpoint), metrics)
    return metrics


def _keep(cfg: Config, checkpoint: Path, metrics: Mapping[str, float | None]) -> None:
    """Write what was tested into the work dir, with what it depends on."""
    if not is_main_process():
        return
    dataset = cfg.test_dataloader.dataset
    root = dataset.get('data_root')
    start = (cfg.model.get('backbone') or {}).get('init_cfg') or {}
    backbone = start.get('checkpoint') if cfg.model.get('head_from') else None
    other = backbone is not None and Path(backbone) != checkpoint
    record = {
        'protocol': cfg.protocol.name,
        'checkpoint': str(checkpoint.resolve()),
        'sha256': file_digest(checkpoint) if checkpoint.is_file() else None,
        'backbone_sha256': file_digest(str(backbone)) if other else None,
        'variant': dataset.get('variant'),
        'data_root': None if root is None else str(Path(root).resolve()),
        'metrics': dict(metrics),
    }
    write_atomically(Path(cfg.work_dir) / TESTED, (json.dumps(record, indent=2) + '\n').encode())


def run_weights(content: Mapping[str, Any], checkpoint: str | Path) -> Any:
    """The weights of a run's checkpoint.

    Args:
        content: what the file holds.
        checkpoint: the file, for the message.

    Raises:
        UserError: the file holds none, such as that of a backbone.
    """
    if 'state_dict' not in content:
        raise UserError(
            f'{checkpoint}: not a checkpoint of a run, which tools/train.py has written. To '
            'measure a pre-trained backbone, train with it first.'
        )
    return content['state_dict']


def load_run(model: Any, checkpoint: str | Path) -> None:
    """Load a run's checkpoint into a whole model, every tensor or none.

    Raises:
        UserError: the file is not of a run.
        CheckpointMismatch: its weights are not exactly those of the model.
    """
    model = unwrapped(model)
    model = model.module if isinstance(model, BaseTTAModel) else model
    state = run_weights(read_file(checkpoint), checkpoint)
    check_fit(model, state, str(checkpoint))
    model.load_state_dict(state)
