"""Testing a run's checkpoint, all of whose weights have to fit."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner

from moca.checkpoints.loading import AUTO, set_checkpoint
from moca.checkpoints.reading import read_file, run_config
from moca.data.survey import check_data
from moca.engine.checkpoints import check_fit
from moca.engine.cli import apply_common
from moca.errors import UserError
from moca.transfer.overrides import THE_RUN, set_statistics
from moca.transfer.predictions import predict_without_labels, set_predictions
from moca.transfer.run import protocol_config
from moca.transfer.run_record import TEST_FOLDER, kinds_of, percent_metrics
from moca.transfer.tta import set_tta


def prepare_test(args: argparse.Namespace) -> Config:
    """Check config, checkpoint and data of ``tools/test.py``.

    Raises:
        UserError: naming what is wrong in the first of the three that has a fault.
    """
    if args.arch == AUTO:
        raise UserError(f'--arch {AUTO}: a run has its own; name the config in its work dir.')
    cfg = protocol_config(args)
    content = read_file(args.checkpoint)
    if 'state_dict' not in content:
        raise UserError(
            f'{args.checkpoint}: not a checkpoint of a run. tools/test.py takes what '
            'tools/train.py has written; to measure a pre-trained backbone, train with it first.'
        )
    cfg.work_dir = str(Path(args.checkpoint).parent / TEST_FOLDER)
    apply_common(cfg, args)
    set_checkpoint(cfg, None)  # all weights come from the run
    take_from_run(cfg, run_config(content))
    if cfg.protocol.task == 'segmentation':
        predict_without_labels(cfg)
        set_predictions(cfg, ['test'])
    check_data(cfg, splits=('test',))
    if args.tta:
        set_tta(cfg)
    return cfg


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
    """Test a model with the weights of a run; returns metrics in percent.

    Raises:
        CheckpointMismatch: if the file's weights are not exactly those of the model.
    """
    runner = Runner.from_cfg(cfg)
    load_run(runner.model, checkpoint)
    return percent_metrics(runner.test(), cfg.protocol.task, kinds_of(cfg.test_evaluator))


def load_run(model: Any, checkpoint: str | Path) -> None:
    """Load a run's checkpoint into a whole model, every tensor or none."""
    model = model.module if is_model_wrapper(model) else model
    model = model.module if isinstance(model, BaseTTAModel) else model
    state = read_file(checkpoint)['state_dict']
    check_fit(model, state, str(checkpoint))
    model.load_state_dict(state)
