"""Arguments that several tools share.

Nothing here imports torch or OpenMMLab's libraries beyond mmengine's configs, so that a tool that
imports the rest when its arguments are parsed answers ``--help`` at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from mmengine.config import DictAction

LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')
"""What starts several processes; :mod:`moca.engine.distributed` reads what each of them sets."""

EMA_MOMENTUM = 2e-4
"""Of ``--ema``; mmengine's and mmdet's: an average over the last 5000 steps or so."""

EXPORT_FORMATS = ('timm', 'moca', 'safetensors', 'transformers')
"""Of ``tools/checkpoint.py export``; see :mod:`moca.pretrain.moca.export`."""

LOG_BACKENDS = ('tensorboard', 'wandb', 'mlflow')
"""Of ``--log-to``; see :mod:`moca.engine.backends`."""


class KeyValueAction(DictAction):
    """mmengine's ``KEY=VALUE`` parser, with argparse's error instead of a traceback."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Parse pairs; ends the process if one is none."""
        try:
            super().__call__(parser, namespace, values, option_string)
        except (ValueError, AssertionError) as error:
            parser.error(f'{option_string} takes KEY=VALUE pairs, got {values}: {error}')


def add_protocol_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `tools/train.py` and `tools/test.py` share beside the common arguments."""
    parser.add_argument('config', metavar='CONFIG', help='a file of configs/ that names a protocol')
    parser.add_argument(
        '--arch',
        help='timm name of the backbone, e.g. vit_small_patch14_dinov2, or auto for that of the '
        'checkpoint [as in CONFIG]',
    )
    parser.add_argument('--data-root', help='folder of the data, laid out as CONFIG says')


def add_common_arguments(
    parser: argparse.ArgumentParser,
    resume: bool = True,
    work_dir: str = 'work_dirs/<config>',
) -> None:
    """Add ``--work-dir --resume --accumulate --amp --launcher --cfg-options`` and the like.

    Args:
        parser: the tool's parser.
        resume: whether the tool trains, and so has something to resume and to accumulate.
        work_dir: what the tool takes where none is given, for the help.
    """
    parser.add_argument('--work-dir', help=f'folder for logs and checkpoints [{work_dir}]')
    parser.set_defaults(resume=None, resume_approximately=False, accumulate=None)
    if resume:
        parser.add_argument(
            '--resume',
            nargs='?',
            const='auto',
            metavar='CKPT',
            help='resume from CKPT, or without a value from the newest checkpoint of the work dir',
        )
        parser.add_argument(
            '--resume-approximately',
            action='store_true',
            help='resume a run by epochs also over other images, with another batch in all or '
            'another number of processes: at the same share of the epoch',
        )
        parser.add_argument(
            '--accumulate',
            metavar='N',
            help='gradient accumulation: split a batch into N micro-batches, or (auto) as many as '
            "the recipe's batch size needs",
        )
    parser.add_argument(
        '--amp',
        action=argparse.BooleanOptionalAction,
        help='train in mixed precision: bfloat16, or float16 with loss scaling on older GPUs',
    )
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none')
    add_verbose(parser, 'print all that the log file gets, from config to rates')
    add_cfg_options(parser)
    # Read by torchrun-era launchers that still pass it; the environment is what counts.
    parser.add_argument('--local_rank', '--local-rank', type=int, help=argparse.SUPPRESS)


def add_verbose(
    parser: argparse.ArgumentParser, text: str = 'print all that the libraries have to say as well'
) -> None:
    """Add ``--verbose``."""
    parser.add_argument('--verbose', action='store_true', help=text)


def add_log_to(parser: argparse.ArgumentParser) -> None:
    """Add ``--log-to``."""
    parser.add_argument(
        '--log-to',
        nargs='+',
        choices=LOG_BACKENDS,
        default=(),
        help='log scalars and images here too, beside the JSON files',
    )


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--cfg-options`` to a parser."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=KeyValueAction,
        default={},
        metavar='KEY=VALUE',
        help='override config fields, e.g. train_cfg.max_iters=100 model.backbone.frozen=True',
    )


def parse_cfg_options(options: Sequence[str]) -> dict[str, Any]:
    """The values of ``KEY=VALUE`` strings, as ``--cfg-options`` reads them."""
    parser = argparse.ArgumentParser()
    add_cfg_options(parser)
    arguments = ['--cfg-options', *options] if options else []
    return dict(parser.parse_args(arguments).cfg_options)


def add_change_arguments(parser: argparse.ArgumentParser, statistics: bool = True) -> None:
    """Add ``--patch``, ``--delta-of`` and, if images are read, ``--mean`` and ``--std``."""
    add_delta_argument(parser)
    parser.add_argument(
        '--patch',
        type=int,
        metavar='N',
        help='resample the patch kernels of CKPT to N x N pixels [as in the file]',
    )
    for name, text in (('mean', 'mean'), ('std', 'deviation')) if statistics else ():
        parser.add_argument(
            f'--{name}',
            nargs=3,
            type=float,
            metavar=('R', 'G', 'B'),
            help=f'{text} that images are normalized with, of pixels from 0 to 1 [as CKPT wants]',
        )


def add_delta_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--delta-of``."""
    parser.add_argument(
        '--delta-of',
        metavar='BACKBONE',
        help='of a CKPT that holds differences, as those of EoMT on DINOv3: what they add to',
    )


def whole_number(lowest: int, highest: int | None = None) -> Callable[[str], int]:
    """An argparse type: a whole number within bounds."""

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = lowest - 1
        if value < lowest or (highest is not None and value > highest):
            bounds = f'from {lowest} up' if highest is None else f'from {lowest} to {highest}'
            raise argparse.ArgumentTypeError(f'{text!r} is no whole number {bounds}')
        return value

    return number


def share_number(text: str) -> float:
    """An argparse type: a number from 0 to 1, such as a score."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:  # which nan is not either
        raise argparse.ArgumentTypeError(f'{text!r} is no number from 0 to 1')
    return value


seed_number = whole_number(0, 2**31 - 1)
"""What NumPy takes for a seed, with room for what each worker adds to it."""
