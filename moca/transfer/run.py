"""One training run of a protocol: config, checkpoint and data are checked, then mmengine trains."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import MODELS
from mmengine.runner import Runner

from moca.backbone.arch import ArchSpec
from moca.checkpoints.changes import changes_of
from moca.checkpoints.loading import AUTO, arch_of_file, check_checkpoint, set_checkpoint
from moca.checkpoints.own_size import own_size
from moca.checkpoints.run_names import (
    arch_label,
    checkpoint_label,
    layer_scale,
    random_label,
    run_folder,
)
from moca.command_line import add_protocol_arguments as add_protocol_arguments
from moca.data.survey import check_data
from moca.engine.backends import log_to
from moca.engine.batch_norm import NoteBatchNorm
from moca.engine.cli import apply_common, merge_options, read_config
from moca.engine.config_check import check_config
from moca.engine.distributed import launched_rank
from moca.engine.hooks import find_hook
from moca.engine.interrupts import saved_when_interrupted
from moca.engine.same_run import SameOnAllProcesses, check_same_start
from moca.engine.terminal import SayWhatRuns
from moca.engine.work_dir import alone_in_work_dir
from moca.errors import UserError
from moca.records.run_json import changes_of_protocol
from moca.transfer.held_out import HELD_OUT, set_held_out
from moca.transfer.overrides import set_arch, set_data_root, set_statistics
from moca.transfer.protocol import check_protocol
from moca.transfer.recipe import (
    ema_of,
    recipe_of_size,
    scale_learning_rate,
    set_ema,
    set_epochs,
    set_subset,
    warn_of_batch,
    warn_of_schedule,
    warn_of_size,
)
from moca.transfer.run_record import (
    RunRecordHook,
    check_earlier_run,
    file_digest,
    options_of,
    told_if_failed,
)


def protocol_config(args: argparse.Namespace, arch: ArchSpec | None = None) -> Config:
    """Read a downstream config and apply the arguments that both tools have.

    ``--cfg-options`` come last, so that they win over ``--arch`` and ``--data-root``.

    Args:
        args: of the tool.
        arch: what ``--arch auto`` stands for, where that is known.

    Raises:
        UserError: if the config is wrong, or is no config of a protocol.
    """
    cfg = read_config(args.config)
    protocol = cfg.get('protocol') or {}
    tasks = ('segmentation', 'detection', 'depth', 'image', 'dense')
    if protocol.get('task') not in tasks or not protocol.get('name'):
        if find_hook(cfg, 'PretrainSchedule'):
            raise UserError(f'{args.config}: a config of pre-training, for tools/pretrain.py.')
        raise UserError(
            f'{args.config}: no protocol with a name and a task. Add e.g. '
            "protocol = dict(name='my_data_linear', title='My data', task='segmentation')."
        )
    if args.arch and (arch or args.arch != AUTO):
        set_arch(cfg, arch or args.arch)
    if args.data_root:
        set_data_root(cfg, args.data_root)
    log_to(cfg, getattr(args, 'log_to', ()))
    merge_options(cfg, args.cfg_options)
    check_config(cfg, source=args.config)
    check_protocol(cfg)
    return cfg


def prepare_training(args: argparse.Namespace) -> tuple[Config, dict[str, Any]]:
    """Check config, checkpoint and data, in this order, before anything is built.

    Args:
        args: arguments of ``tools/train.py``.

    Returns:
        The config to build a `Runner` from, and the fields of ``run.json`` known so far.

    Raises:
        UserError: naming what is wrong in the first of the three that has a fault.
    """
    cfg = protocol_config(args, auto_arch(args))
    if args.seed is not None:
        cfg.merge_from_dict({'randomness.seed': args.seed})
    if args.auto_scale_lr:
        cfg.merge_from_dict({'auto_scale_lr.enable': True})
    epochs = getattr(args, 'epochs', None)
    if epochs is not None:
        set_epochs(cfg, epochs)
    momentum = getattr(args, 'ema', None)
    if momentum is not None:
        set_ema(cfg, momentum)
    checkpoint = prepare_checkpoint(cfg, args)
    seed = (cfg.get('randomness') or {}).get('seed')
    count = getattr(args, 'subset', None)
    if not args.work_dir and not cfg.get('work_dir'):
        name = cfg.protocol.name + ('' if getattr(args, 'held_out', None) is None else HELD_OUT)
        cfg.work_dir = str(
            run_folder(name, checkpoint, arch_label(cfg.model.backbone.arch), seed, count)
        )
    apply_common(cfg, args)
    warn_of_size(cfg)
    scale_learning_rate(cfg)
    if cfg.get('load_from') and not cfg.get('resume'):
        raise UserError(
            f'load_from={cfg.load_from}: weights of a whole model would pass for those of '
            f'{checkpoint["name"]!r}. Give a backbone with --checkpoint, or --resume a run.'
        )
    subset = None
    if count is not None:
        subset = set_subset(cfg, count, seed)
    if count is not None or epochs is not None:
        lengths = ('train_cfg', 'param_scheduler', 'default_hooks')  # options win over these, too
        options = args.cfg_options
        merge_options(cfg, {k: v for k, v in options.items() if k.split('.')[0] in lengths})
    held_out = getattr(args, 'held_out', None)
    held = None if held_out is None else set_held_out(cfg, held_out)
    check_data(cfg)
    check_of_model(cfg, ('train', 'val'))
    fields = known_fields(cfg, args, checkpoint)  # now that the protocol has its name
    return cfg, {**fields, 'subset': subset, 'held_out': held, 'ema': ema_of(cfg)}


def known_fields(
    cfg: Config, args: argparse.Namespace, checkpoint: dict[str, Any]
) -> dict[str, Any]:
    """What ``run.json`` says of any run before it starts.

    Args:
        cfg: of the protocol.
        args: of the tool.
        checkpoint: what `prepare_checkpoint` returned.
    """
    given = getattr(args, 'given', None)
    return {
        'protocol': cfg.protocol.name,
        'title': cfg.protocol.get('title', cfg.protocol.name),
        'published': cfg.protocol.get('published'),
        'main_metrics': cfg.protocol.get('metrics'),
        'task': cfg.protocol.task,
        'checkpoint': checkpoint,
        'arch': arch_label(cfg.model.backbone.arch),
        'note': getattr(args, 'note', None),
        'config': Path(cfg.filename).name,
        'options': options_of(args.data_root, args.cfg_options),
        'changes': changes_of_protocol(args.cfg_options, recipe_of_size(cfg)),
        **({'command': shlex.join(['tools/train.py', *given])} if given else {}),
    }


def check_of_model(cfg: Config, splits: Sequence[str], **known: Any) -> None:
    """Let a config's model check what only it knows of its data, if it has a ``check_run``.

    Raises:
        UserError: As that does.
    """
    cls = model_class(cfg)
    if hasattr(cls, 'check_run') and launched_rank(cfg.get('launcher', 'none')) == 0:
        cls.check_run(cfg, splits, **known)


def model_class(cfg: Config) -> Any:
    """The class of a config's model, if it has one."""
    kind = cfg.model.get('type')
    return MODELS.get(kind) if isinstance(kind, str) else kind


def prepare_checkpoint(cfg: Config, args: argparse.Namespace) -> dict[str, Any]:
    """Set and check the backbone's weights; returns what ``run.json`` says of them.

    They are those of ``--checkpoint``, else those that the config names itself, else random.
    """
    backbone = cfg.model.backbone
    grid, prefix = getattr(args, 'grid', None), getattr(args, 'prefix', None)
    changes = changes_of(args)
    if args.checkpoint:
        set_checkpoint(cfg, args.checkpoint, args.branch, args.trust, grid, prefix, changes)
    weights = backbone.get('init_cfg') or {}
    described = args.branch or grid or prefix or changes or (args.name and not weights)
    if not args.checkpoint and described:
        raise UserError(
            '--name, --branch, --prefix, --grid, --patch, --mean, --std and --delta-of describe a '
            'checkpoint: give --checkpoint as well.'
        )
    if weights.get('type') != 'ViTCheckpoint':
        if backbone.get('interpolation') is None:
            backbone.interpolation = 'bicubic'
        kind = backbone.get('type')
        cls = MODELS.get(kind) if isinstance(kind, str) else kind
        name = getattr(cls, 'label', None) or random_label(backbone.arch)  # colors
        return {'name': name, 'path': None, 'branch': None}
    options = {key: value for key, value in weights.items() if key not in ('type', 'checkpoint')}
    path = weights['checkpoint']
    size = backbone.get('img_size')
    info = check_checkpoint(path, backbone.arch, img_size=size, **options)
    if size is None and cfg.get('evaluation'):  # images of many sizes: resampled once, to each
        backbone.img_size = own_size(info, backbone.arch, options.get('grid'))
    # what tests of the run have to know
    if backbone.get('interpolation') is None:
        backbone.interpolation = info.interpolation
    if backbone.get('norm_eps') is None and info.norm_eps is not None:
        backbone.norm_eps = info.norm_eps
    mean, std = set_statistics(cfg, info.mean, info.std, info.normalized_by)
    return {
        'name': args.name or checkpoint_label(path),
        'path': str(path),
        'branch': info.branch,
        'sha256': file_digest(path),
        'mean': list(mean),
        'std': list(std),
        'normalized_by': info.normalized_by,
        **({'prefix': options['prefix']} if options.get('prefix') else {}),
        **({'patch': info.patch_size} if info.resampled_from else {}),
        **({'delta_of': file_digest(options['delta_of'])} if options.get('delta_of') else {}),
    }


def auto_arch(args: argparse.Namespace) -> ArchSpec | None:
    """What ``--arch auto`` stands for: the checkpoint's, by its names, shapes and config.

    Raises:
        UserError: there is no checkpoint, or nothing tells the number of its heads.
    """
    if args.arch != AUTO:
        return None
    if not args.checkpoint:
        raise UserError(f'--arch {AUTO}: takes the architecture of --checkpoint; name one.')
    prefix = getattr(args, 'prefix', None)
    return arch_of_file(args.checkpoint, args.branch, args.trust, prefix, **changes_of(args))


def train(cfg: Config, record: dict[str, Any]) -> Path:
    """Train, validate, and write ``run.json``; returns its path.

    Raises:
        UserError: if the work dir holds, or ``--resume`` would go on with, another run, or another
            process trains in it.
    """
    check_same_start(cfg)
    with alone_in_work_dir(cfg):
        return _train(cfg, record)


def _train(cfg: Config, record: dict[str, Any]) -> Path:
    check_earlier_run(cfg, record)
    runner = Runner.from_cfg(cfg)
    runner.register_hook(SameOnAllProcesses())
    runner.register_hook(NoteBatchNorm())
    runner.register_hook(SayWhatRuns())
    hook = RunRecordHook(record)
    runner.register_hook(hook)
    if record['checkpoint']['path'] is None:
        print_log(random_weights_text(cfg), runner.logger, level=30)
    warn_of_batch(runner)
    warn_of_schedule(runner)
    with told_if_failed(cfg.work_dir):
        with enough_for_batch_norm(), saved_when_interrupted(runner):
            runner.train()
        if hook.metrics is None:  # a finished run was resumed
            runner.val()
    path = hook.write(runner)
    print_log(f'Finished: {path}', runner.logger)
    return path


@contextmanager
def enough_for_batch_norm() -> Iterator[None]:
    """Say what to change where a head pools a single image to one value (UPerNet does).

    Raises:
        UserError: instead of torch's error.
    """
    try:
        yield
    except ValueError as error:
        if 'more than 1 value per channel' not in str(error):
            raise
        raise UserError(
            'train_dataloader.batch_size: batch norm has a single value per channel, since the '
            'head pools an image to one. Give each process two images or more (--accumulate '
            'makes up for fewer processes).'
        ) from error


def random_weights_text(cfg: Config) -> str:
    """What the log says of a run without a checkpoint."""
    text = 'The backbone starts from random weights: no --checkpoint.'
    scale = layer_scale(cfg.model.backbone.arch)
    if scale is not None:
        text += (
            f' LayerScale starts from {scale:g}; where that is small, the blocks change the '
            'patch embedding little, unlike those of a random ViT without LayerScale.'
        )
    return text
