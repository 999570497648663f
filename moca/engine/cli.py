"""The command line that tools share: config, launcher, resume, mixed precision."""

from __future__ import annotations

import argparse
import functools
import inspect
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ParamSpec

import torch.distributed
from mmengine.config import Config, DictAction
from mmengine.logging import print_log
from mmengine.runner import Runner

from moca.engine.accumulate import set_accumulation
from moca.engine.amp import enable_amp
from moca.engine.checkpoints import latest_checkpoint
from moca.engine.config_check import building_error, check_config, nearest
from moca.engine.distributed import LAUNCHERS, prepare_launcher
from moca.engine.memory import keep_freed_memory
from moca.errors import UserError

P = ParamSpec('P')

# Top-level fields that `Runner` or this package reads; others are variables of the config file.
_FIELDS_READ = {
    *inspect.signature(Runner.__init__).parameters,
    *('custom_imports', 'model_wrapper_cfg', 'protocol', 'strategy', 'tta', 'tta_model'),
}


class _KeyValueAction(DictAction):
    """mmengine's ``KEY=VALUE`` parser, with argparse's error instead of a traceback."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        try:
            super().__call__(parser, namespace, values, option_string)
        except (ValueError, AssertionError) as error:
            parser.error(f'{option_string} takes KEY=VALUE pairs, got {values}: {error}')


def add_common_arguments(parser: argparse.ArgumentParser, resume: bool = True) -> None:
    """Add ``--work-dir --resume --accumulate --amp --launcher --cfg-options`` to a parser.

    Args:
        parser: the tool's parser.
        resume: whether the tool trains, and so has something to resume and to accumulate.
    """
    parser.add_argument('--work-dir', help='folder for logs and checkpoints [work_dirs/<config>]')
    parser.set_defaults(resume=None, accumulate=None)
    if resume:
        parser.add_argument(
            '--resume',
            nargs='?',
            const='auto',
            metavar='CKPT',
            help='resume from CKPT, or without a value from the newest checkpoint of the work dir',
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
    add_cfg_options(parser)
    # Read by torchrun-era launchers that still pass it; the environment is what counts.
    parser.add_argument('--local_rank', '--local-rank', type=int, help=argparse.SUPPRESS)


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


seed_number = whole_number(0, 2**31 - 1)
"""What NumPy takes for a seed, with room for what each worker adds to it."""


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--cfg-options`` to a parser."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=_KeyValueAction,
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


def read_config(path: str | Path, cfg_options: dict[str, Any] | None = None) -> Config:
    """Read a config file, apply ``--cfg-options`` and check it.

    Raises:
        UserError: if the file is missing or cannot be parsed, an option names no field of the
            config, or a class of ours is given an argument that it does not have.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f'{path}: no such config file.{_similar_configs(path)}')
    try:
        cfg = Config.fromfile(str(path))
    except UserError:
        raise
    except Exception as error:  # a config is code: anything can go wrong in it
        raise UserError(
            f'{path}: the config cannot be read: {type(error).__name__}: {error}'
        ) from error
    merge_options(cfg, cfg_options or {})
    check_config(cfg, source=str(path))
    return cfg


def apply_common(cfg: Config, args: argparse.Namespace) -> Config:
    """Apply the arguments of `add_common_arguments` to a config, which is changed and returned.

    Args:
        cfg: what `read_config` returned.
        args: parsed arguments; ``args.config`` is not needed.

    Raises:
        UserError: if the launcher's environment is incomplete, the checkpoint to resume from does
            not exist, the recipe's batch cannot be reached by accumulation, or the config's
            optimizer wrapper cannot run in mixed precision.
    """
    stem = Path(cfg.filename).stem if cfg.filename else 'run'
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or str(Path('work_dirs') / stem)
    cfg.launcher = args.launcher
    prepare_launcher(cfg, Path(sys.argv[0]).name)
    if not torch.cuda.is_available():
        keep_freed_memory()
    if args.resume == 'auto':
        latest = latest_checkpoint(cfg.work_dir)
        cfg.resume, cfg.load_from = latest is not None, str(latest) if latest else None
        if latest is None:
            print_log(f'--resume: no checkpoint in {cfg.work_dir} yet, starting anew', 'current')
    elif args.resume:
        if not Path(args.resume).is_file():
            raise UserError(
                f'--resume {args.resume}: no such file. Name a checkpoint that a run has written, '
                f'or give --resume alone to go on from the newest one in {cfg.work_dir}.'
            )
        cfg.resume, cfg.load_from = True, str(args.resume)
    count = (cfg.get('optim_wrapper') or {}).get('accumulative_counts', 1)
    if args.accumulate or count != 1:  # by --cfg-options: of steps of the optimizer as well
        set_accumulation(cfg, args.accumulate or str(count))
    if args.amp:
        enable_amp(cfg)
    return cfg


def main_guard(fn: Callable[P, object]) -> Callable[P, int]:
    """Decorate a tool's ``main``: a `UserError`, or a library's refusal to build what the config
    asks for, becomes one red line on stderr and exit code 2; an interrupt (Ctrl-C) one line and
    exit code 130.

    Example:
        >>> @main_guard
        ... def main(argv=None): ...
        >>> sys.exit(main())
    """

    @functools.wraps(fn)
    def launched(*args: P.args, **kwargs: P.kwargs) -> int:
        code = guarded(*args, **kwargs)
        if 'TORCHELASTIC_RUN_ID' in os.environ:
            # All is written. A thread of torch's that is still alive now and then aborts the
            # process as the interpreter takes it down, and torchrun would report a failure.
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        return code

    def guarded(*args: P.args, **kwargs: P.kwargs) -> int:
        try:
            fn(*args, **kwargs)
        except UserError as error:
            # from a loader's worker it arrives with the worker's traceback in front
            _print_error(str(error).rsplit('UserError: ', 1)[-1].strip())
            return 2
        except (TypeError, KeyError) as error:
            message = building_error(error)
            if message is None:
                raise
            _print_error(f'the config cannot be built: {message}')
            return 2
        except KeyboardInterrupt:
            print(
                'Interrupted. --resume continues a run from its last checkpoint, if it has one; '
                'the same command continues a queue of runs.',
                file=sys.stderr,
            )
            return 130
        finally:
            # Left to the interpreter's exit, gloo's threads can outlive what they use and abort.
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()
        return 0

    return launched


def _print_error(message: str) -> None:
    red, plain = ('\033[31m', '\033[0m') if sys.stderr.isatty() else ('', '')
    print(f'{red}error: {message}{plain}', file=sys.stderr)


def merge_options(cfg: Config, options: dict[str, Any]) -> None:
    """Apply ``--cfg-options`` to a config, which is changed.

    Raises:
        UserError: if an option starts with a field that neither the config nor `Runner` has, or
            does not fit what it is to change.
    """
    known = [*cfg.keys(), *inspect.signature(Runner.__init__).parameters]
    for key, value in options.items():
        top = key.split('.')[0]
        if top in cfg and top not in _FIELDS_READ:
            raise UserError(
                f'--cfg-options {key}={value}: {top} only helps to write the config, nothing reads '
                'it afterwards. Set the field that it was used in, such as train_cfg.max_iters, '
                'train_cfg.max_epochs or train_dataloader.batch_size (or --data-root).'
            )
        if top not in known:
            raise UserError(
                f'--cfg-options {key}={value}: the config has no field {top!r}.'
                + nearest(top, known)
            )
        try:
            cfg.merge_from_dict({key: value})
        except (KeyError, TypeError, IndexError, ValueError) as error:
            raise UserError(f'--cfg-options {key}={value}: {error}') from error


def _similar_configs(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return ''
    return nearest(path.name, [name for name in os.listdir(folder) if name.endswith('.py')])
