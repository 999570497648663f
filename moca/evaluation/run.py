"""One run of a protocol without training: what is checked before it, how it runs, its record."""

from __future__ import annotations

import argparse
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import barrier, get_rank, get_world_size, init_dist
from mmengine.logging import MMLogger, print_log
from mmengine.registry import MODELS, TASK_UTILS
from mmengine.runner import set_random_seed

from moca.backbone import PlainViT
from moca.checkpoints.run_names import run_folder
from moca.engine.amp import preferred_dtype
from moca.engine.cli import apply_common
from moca.engine.config_files import load_config
from moca.engine.distributed import launched_processes
from moca.engine.environment import environment
from moca.engine.ranges import check_count
from moca.engine.same_run import check_same_start
from moca.engine.work_dir import alone_in_work_dir, changed_fields
from moca.errors import UserError
from moca.evaluation.extraction import features_folder
from moca.evaluation.protocol import Evaluation, EvaluationRun, Result
from moca.records.run_json import RECORD, read_record
from moca.transfer.run import (
    auto_arch,
    known_fields,
    prepare_checkpoint,
    protocol_config,
    random_weights_text,
)
from moca.transfer.run_record import (
    check_earlier_run,
    keep_result,
    percent_metrics,
    told_if_failed,
    write_record,
)

_DEFAULTS: dict[str, Any] = dict(
    branch=None, trust=False, name=None, prefix=None, grid=None, note=None, seed=None, resume=None
)
"""Arguments of tools/train.py that tools/test.py does not have."""

_OF_TRAINING = {
    'epochs': '--epochs',
    'subset': '--subset',
    'held_out': '--held-out',
    'ema': '--ema',
    'accumulate': '--accumulate',
    'auto_scale_lr': '--auto-scale-lr',
    'tta': '--tta',
    'backbone': '--backbone',
    'variant': '--variant',
    'log_to': '--log-to',
}

_LOADING = dict(batch_size=128, num_workers=0, cache=None)


def is_evaluation(path: str) -> bool:
    """Whether a config is of a protocol without training; one that cannot be read is not."""
    try:
        cfg = load_config(path)
    except Exception:  # reading it again says what is wrong
        return False
    return bool((cfg.get('evaluation') or {}).get('type')) and not cfg.get('train_dataloader')


def prepare_evaluation(
    args: argparse.Namespace,
) -> tuple[Config, dict[str, Any], Evaluation]:
    """Check config, checkpoint and data, in this order, before the backbone is built.

    Args:
        args: Of ``tools/train.py`` or ``tools/test.py``.

    Returns:
        The config, the fields of ``run.json`` known so far, and what is to run.

    Raises:
        UserError: Naming what is wrong in the first of the three that has a fault.
    """
    args = argparse.Namespace(**{**_DEFAULTS, **vars(args)})
    for field, option in _OF_TRAINING.items():
        if getattr(args, field, None) not in (None, False, ()):
            raise UserError(
                f'{option}: {args.config} trains nothing, so that it has no meaning. Leave it out.'
            )
    if args.resume not in (None, 'auto'):
        raise UserError(
            f'--resume {args.resume}: a run without training has no checkpoint to go on from. '
            '--resume alone shows a finished result instead of measuring again.'
        )
    cfg = protocol_config(args, auto_arch(args))
    if args.seed is not None:
        cfg.merge_from_dict({'randomness.seed': args.seed})
    cfg.model.backbone.frozen = True
    evaluation = _built(cfg)
    checkpoint = prepare_checkpoint(cfg, args)
    record = known_fields(cfg, args, checkpoint)
    if not args.work_dir and not cfg.get('work_dir'):
        seed = cfg.randomness.seed
        cfg.work_dir = str(run_folder(cfg.protocol.name, checkpoint, record['arch'], seed))
    # what belongs to training is settled here
    apply_common(cfg, argparse.Namespace(**{**vars(args), 'resume': None, 'amp': None}))
    cfg.resume = args.resume is not None
    _check_support(evaluation, cfg, bool(args.amp))
    if args.amp:
        record['precision'] = preferred_dtype()
    evaluation.prepare()
    return cfg, record, evaluation


def _built(cfg: Config) -> Evaluation:
    """The evaluation of a config, whose loading is completed by the defaults."""
    cfg.setdefault('randomness', dict(seed=0))
    loading = dict(cfg.get('loading') or {})
    if unknown := loading.keys() - _LOADING.keys():
        raise UserError(
            f'{cfg.filename}: loading.{min(unknown)}: there is no such field. It has '
            f'{", ".join(_LOADING)}.'
        )
    cfg.loading = {**_LOADING, **loading}
    for field, lowest in (('batch_size', 1), ('num_workers', 0)):
        check_count(cfg.loading[field], f'loading.{field}', lowest)
    evaluation = TASK_UTILS.build(cfg.evaluation)
    if not isinstance(evaluation, Evaluation):
        raise UserError(
            f'{cfg.filename}: evaluation.type={cfg.evaluation.type!r} is no evaluation: it is no '
            'subclass of moca.evaluation.protocol.Evaluation.'
        )
    return evaluation


def _check_support(evaluation: Evaluation, cfg: Config, half: bool) -> None:
    name = type(evaluation).__name__
    if half and not evaluation.half:
        raise UserError(f'--amp: {name} measures in fp32, as is published. Leave it out.')
    size = launched_processes(cfg.launcher)
    if size > 1 and not evaluation.parallel:
        raise UserError(
            f'--launcher {cfg.launcher}: {name} is measured by one process, and {size} were '
            'started. Leave the launcher out.'
        )


def evaluate(cfg: Config, record: dict[str, Any], evaluation: Evaluation) -> Path:
    """Measure, and write ``run.json``; returns its path.

    A finished record of the same run is shown instead with ``--resume``; without it, the earlier
    one is kept as ``run_TIME.json``.

    Raises:
        UserError: The work dir holds another run, or another process is at work there.
    """
    check_same_start(cfg)
    with alone_in_work_dir(cfg):
        check_earlier_run(cfg, record)
        path = Path(cfg.work_dir) / RECORD
        earlier = read_record(path)
        if cfg.resume and earlier.get('status') == 'finished':
            _check_same_options(path, earlier, record)
            print_log(f'{path} is finished already: {json.dumps(earlier["metrics"])}', 'current')
            return path
        _start(cfg)
        with told_if_failed(cfg.work_dir):
            return _measured(cfg, record, evaluation)


def _check_same_options(path: Path, earlier: dict[str, Any], record: dict[str, Any]) -> None:
    theirs, ours = earlier.get('options'), record['options']
    if theirs is not None and theirs != ours:
        raise UserError(
            f'{path} was measured with other settings, which would now change: '
            f'{", ".join(changed_fields(theirs, ours))}. Give the same --data-root and '
            '--cfg-options, or another --work-dir.'
        )


def _start(cfg: Config) -> None:
    """Begin the log, join the processes, keep the config beside the record."""
    if cfg.launcher != 'none' and not torch.distributed.is_initialized():
        init_dist(cfg.launcher, **(cfg.get('env_cfg') or {}).get('dist_cfg', {}))
    stamp = time.strftime('%Y%m%d_%H%M%S')
    folder = Path(cfg.work_dir) / stamp
    if get_rank() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        cfg.dump(Path(cfg.work_dir) / Path(cfg.filename).name)
    barrier()
    # a name of its own: loggers are kept for as long as the process lives
    MMLogger.get_instance(f'{folder}_{time.monotonic_ns()}', log_file=str(folder / f'{stamp}.log'))


def _measured(cfg: Config, record: dict[str, Any], evaluation: Evaluation) -> Path:
    begun, seed = time.monotonic(), cfg.randomness.seed
    keep_result(cfg.work_dir)
    record = {**record, 'seed': seed}
    write_record(cfg.work_dir, {'status': 'running', **record})
    set_random_seed(seed)
    model = build_backbone(cfg)
    if record['checkpoint']['path'] is None and not hasattr(model, 'label'):
        print_log(random_weights_text(cfg), 'current', level=30)
    half = record.get('precision')
    run = EvaluationRun(
        seed=seed,
        device=next(model.parameters()).device,
        precision=None if half is None else getattr(torch, half),
        num_workers=cfg.loading.num_workers,
        batch_size=cfg.loading.batch_size,
        work_dir=Path(cfg.work_dir),
        checkpoint=record['checkpoint'],
        cache=features_folder(cfg.loading.cache, cfg.work_dir),
    )
    print_log(
        f'{record["title"]}: {evaluation.train_images:,} training and {evaluation.val_images:,} '
        f'validation {evaluation.counted}, processes: {get_world_size()}',
        'current',
    )
    result = evaluation.run(model, run)
    path = write_record(
        cfg.work_dir,
        {
            'status': 'finished',
            **record,
            'train_images': evaluation.train_images,
            'val_images': evaluation.val_images,
            'counted': evaluation.counted,
            'iterations': 0,
            'seconds': round(time.monotonic() - begun, 1),
            'metrics': percent_metrics(result.metrics, cfg.protocol.task),
            'chosen': result.chosen,
            'settings': {'precision': half or 'float32', **result.settings},
            'environment': environment(),
            'finished_at': datetime.now(UTC).isoformat(timespec='seconds'),
        },
    )
    _tell(cfg, result, path)
    barrier()
    return path


def _tell(cfg: Config, result: Result, path: Path) -> None:
    values = ', '.join(f'{name} {value:.2f}' for name, value in result.metrics.items())
    print_log(f'{values}. Finished: {path}', 'current')
    missing = [name for name in cfg.protocol.get('metrics') or () if name not in result.metrics]
    if missing:
        print_log(
            f'protocol.metrics names {", ".join(missing)}, which was not measured under these '
            'settings: the leaderboard leaves the run out. Set protocol.metrics to names above.',
            'current',
            level=30,
        )


def build_backbone(cfg: Config) -> PlainViT:
    """The frozen backbone of a config with its weights, in eval mode, on the GPU if there is one.

    It knows what its images are normalized with: ``mean`` and ``std``.
    """
    model: PlainViT = MODELS.build(cfg.model.backbone)
    model.init_weights()
    return model.to(get_device()).eval()
