"""One training run of a protocol: config, checkpoint and data are checked, then mmengine trains."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.runner import Runner

from moca.backbone.arch import vit_dimensions
from moca.backbone.checkpoint import check_checkpoint
from moca.engine.config_check import check_config
from moca.engine.launch import apply_common, merge_options, read_config
from moca.errors import UserError
from moca.transfer.data_check import check_data
from moca.transfer.overrides import set_arch, set_checkpoint, set_data_root
from moca.transfer.record import RunRecordHook


def add_protocol_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `tools/train.py` and `tools/test.py` share beside the common arguments."""
    parser.add_argument('config', metavar='CONFIG', help='a file of configs/segmentation|detection')
    parser.add_argument(
        '--arch', help='timm name of the backbone, e.g. vit_small_patch14_dinov2 [as in CONFIG]'
    )
    parser.add_argument('--data-root', help='folder of the data, laid out as CONFIG says')


def protocol_config(args: argparse.Namespace) -> Config:
    """Read a downstream config and apply the arguments that both tools have.

    ``--cfg-options`` come last, so that they win over ``--arch`` and ``--data-root``.

    Raises:
        UserError: if the config is wrong, or is no config of a protocol.
    """
    cfg = read_config(args.config)
    protocol = cfg.get('protocol') or {}
    if protocol.get('task') not in ('segmentation', 'detection') or not protocol.get('name'):
        raise UserError(
            f'{args.config}: no protocol with a name and a task. Add e.g. '
            "protocol = dict(name='my_data_linear', title='My data', task='segmentation')."
        )
    if args.arch:
        set_arch(cfg, args.arch)
    if args.data_root:
        set_data_root(cfg, args.data_root)
    merge_options(cfg, args.cfg_options)
    check_config(cfg, source=args.config)
    return apply_common(cfg, args)


def prepare_training(args: argparse.Namespace) -> tuple[Config, dict[str, Any]]:
    """Check config, checkpoint and data, in this order, before anything is built.

    Args:
        args: arguments of ``tools/train.py``.

    Returns:
        The config to build a `Runner` from, and the fields of ``run.json`` known so far.

    Raises:
        UserError: naming what is wrong in the first of the three that has a fault.
    """
    cfg = protocol_config(args)
    if args.seed is not None:
        cfg.randomness = dict(seed=args.seed)
    if args.auto_scale_lr:
        cfg.setdefault('auto_scale_lr', {})['enable'] = True
    set_checkpoint(cfg, args.checkpoint, args.branch, args.trust)
    checkpoint: dict[str, Any] = {'name': 'random init', 'path': None, 'branch': None}
    arch = cfg.model.backbone.arch
    if args.checkpoint:
        info = check_checkpoint(args.checkpoint, arch, args.branch, trust=args.trust)
        name = args.name or checkpoint_label(args.checkpoint)
        checkpoint = {'name': name, 'path': str(args.checkpoint), 'branch': info.branch}
    elif args.name or args.branch:
        raise UserError('--name and --branch describe a checkpoint: give --checkpoint as well.')
    check_data(cfg)
    return cfg, {
        'protocol': cfg.protocol.name,
        'title': cfg.protocol.get('title', cfg.protocol.name),
        'published': cfg.protocol.get('published'),
        'main_metrics': cfg.protocol.get('metrics'),
        'task': cfg.protocol.task,
        'checkpoint': checkpoint,
        'arch': arch_label(arch),
        'config': Path(cfg.filename).name,
    }


def train(cfg: Config, record: dict[str, Any]) -> Path:
    """Train, validate, and write ``run.json``; returns its path."""
    runner = Runner.from_cfg(cfg)
    hook = RunRecordHook(record)
    runner.register_hook(hook)
    if record['checkpoint']['path'] is None:
        print_log('The backbone starts from random weights: no --checkpoint.', runner.logger, 30)
    _warn_of_batch(runner)
    runner.train()
    if hook.metrics is None:  # a finished run was resumed
        runner.val()
    path = hook.write(runner)
    print_log(f'Finished: {path}', runner.logger)
    return path


def checkpoint_label(path: str | Path) -> str:
    """Return a row label for a checkpoint file: its name, with its folder's for mmengine's names.

    Example:
        >>> checkpoint_label('work_dirs/moca_tiny/epoch_10.pth')
        'moca_tiny/epoch_10'
    """
    path = Path(path)
    if re.fullmatch(r'(epoch|iter|best_.*)_\d+|latest', path.stem):
        return f'{path.resolve().parent.name}/{path.stem}'
    return path.stem


def arch_label(arch: Any) -> str:
    """Return a short name of an architecture, which may be a dict of dimensions."""
    if isinstance(arch, str):
        return arch
    vit = vit_dimensions(arch)
    return f'vit_{vit.embed_dim}x{vit.depth}_patch{vit.patch_size}'


def _warn_of_batch(runner: Runner) -> None:
    """Learning rates belong to a batch size: say so where the recipe's is not met."""
    scaling = runner.cfg.get('auto_scale_lr') or {}
    recipe = scaling.get('base_batch_size')
    batch = (
        runner.world_size
        * runner.cfg.train_dataloader.batch_size
        * runner.cfg.optim_wrapper.get('accumulative_counts', 1)
    )
    if recipe and batch != recipe and not scaling.get('enable'):
        print_log(
            f"The batch is {batch} and the recipe's is {recipe}: its learning rate may not fit. "
            'Change train_dataloader.batch_size or optim_wrapper.accumulative_counts, '
            'or scale the learning rate with --auto-scale-lr.',
            runner.logger,
            level=30,
        )
