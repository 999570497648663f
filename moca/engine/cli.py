"""What tools share once their arguments are parsed: config, launcher, resume, mixed precision.

The arguments themselves are in :mod:`moca.command_line`.
"""

from __future__ import annotations

import argparse
import functools
import inspect
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec

import torch.distributed
from mmengine.config import Config
from mmengine.runner import Runner
from torch.distributed.elastic.multiprocessing.errors import get_error_handler

from moca.command_line import add_cfg_options as add_cfg_options
from moca.command_line import add_common_arguments as add_common_arguments
from moca.command_line import parse_cfg_options as parse_cfg_options
from moca.command_line import seed_number as seed_number
from moca.command_line import whole_number as whole_number
from moca.engine.accumulate import set_accumulation
from moca.engine.amp import enable_amp
from moca.engine.background import finish_jobs
from moca.engine.config_check import building_error, check_config, nearest
from moca.engine.config_files import load_config
from moca.engine.config_kinds import check_option
from moca.engine.disk_errors import disk_error, log_files_raise
from moca.engine.distributed import check_environment, prepare_launcher, processes_here
from moca.engine.interrupts import Interrupted
from moca.engine.meeting import joined, processes_of
from moca.engine.memory import keep_freed_memory
from moca.engine.resume import settle_resume
from moca.engine.same_run import check_same_device
from moca.engine.shared_memory import shared_memory_error
from moca.engine.workers import check_cpus
from moca.errors import INTERRUPTED, UserError, error_line

P = ParamSpec('P')

# Top-level fields that `Runner` or this package reads; others are variables of the config file.
_FIELDS_READ = {
    *inspect.signature(Runner.__init__).parameters,
    *('custom_imports', 'evaluation', 'loading', 'model_wrapper_cfg', 'protocol', 'strategy'),
    *('tta', 'tta_model'),
}


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
        cfg = load_config(path)
    except UserError:
        raise
    except Exception as error:  # a config is code: anything can go wrong in it
        line = next(iter(str(error).strip().splitlines()), '')  # others list Python's search path
        raise UserError(
            f'{path}: the config cannot be read: {type(error).__name__}: {line}'
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
            not exist or not for every process, ``--resume-approximately`` has nothing to be of
            use for, the recipe's batch cannot be reached by accumulation, or the config's
            optimizer wrapper cannot run in mixed precision.
    """
    stem = Path(cfg.filename).stem if cfg.filename else 'run'
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or str(Path('work_dirs') / stem)
    cfg.launcher = args.launcher
    tool = Path(sys.argv[0]).name
    check_environment(cfg.launcher, tool)
    processes = processes_of(cfg.launcher)
    check_same_device(processes)
    prepare_launcher(cfg, tool)
    if not torch.cuda.is_available():
        keep_freed_memory()
    check_cpus(cfg, processes_here(cfg.launcher))
    settle_resume(cfg, args.resume, processes)
    if args.resume_approximately:
        _allow_approximate_resume(cfg, args.resume)
    count = (cfg.get('optim_wrapper') or {}).get('accumulative_counts', 1)
    if args.accumulate or count != 1:  # by --cfg-options: of steps of the optimizer as well
        set_accumulation(cfg, args.accumulate or str(count))
    if args.amp:
        enable_amp(cfg)
    return cfg


def _allow_approximate_resume(cfg: Config, resume: str | None) -> None:
    if not resume:
        raise UserError('--resume-approximately needs --resume, the run to go on with.')
    if (cfg.get('train_cfg') or {}).get('type') != 'ExactEpochLoop':
        raise UserError(
            '--resume-approximately is for runs by epochs (ExactEpochLoop). One by iterations is '
            'resumed over other images or by other processes anyway, with a warning: leave it out.'
        )
    cfg.train_cfg.approximately = True


def main_guard(fn: Callable[P, object]) -> Callable[P, int]:
    """Decorate a tool's ``main``: a `UserError`, or a library's refusal to build what the config
    asks for, becomes one red line on stderr and exit code 2; an interrupt one line and exit code
    130 (Ctrl-C) or 143 (SIGTERM).

    Where several processes were joined (`moca.engine.meeting.join`), any error ends all of them
    within seconds, with the line and the exit code of the one that failed first.

    Example:
        >>> @main_guard
        ... def main(argv=None): ...
        >>> sys.exit(main())
    """

    @functools.wraps(fn)
    def launched(*args: P.args, **kwargs: P.kwargs) -> int:
        code = guarded(*args, **kwargs)
        if 'TORCHELASTIC_RUN_ID' in os.environ or joined().size > 1:
            # All is written. A thread of torch's that is still alive now and then aborts the
            # process as the interpreter takes it down, and the launcher would report a failure.
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        return code

    def guarded(*args: P.args, **kwargs: P.kwargs) -> int:
        try:
            with log_files_raise():
                fn(*args, **kwargs)
            joined().finish()
        except BaseException as error:
            code, line = _outcome(error)
            if joined().size > 1:
                _end_all(error, code, line)
            if line is None:
                raise
            print(line, file=sys.stderr)
            return code
        finally:
            finish_jobs()
            # Left to the interpreter's exit, gloo's threads can outlive what they use and abort.
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()
        return 0

    return launched


def _outcome(error: BaseException) -> tuple[int, str | None]:
    """The exit code of an error, and the line that stands for it; None where a traceback does."""
    if isinstance(error, UserError):
        # from a loader's worker it arrives with the worker's traceback in front
        return 2, error_line(str(error).rsplit('UserError: ', 1)[-1].strip())
    if isinstance(error, TypeError | KeyError) and (message := building_error(error)):
        return 2, error_line(f'the config cannot be built: {message}')
    if message := shared_memory_error(error) or disk_error(error):
        return 2, error_line(message)
    if isinstance(error, Interrupted):
        return error.code, str(error)
    if isinstance(error, KeyboardInterrupt):
        return 130, INTERRUPTED
    if isinstance(error, SystemExit) and error.code == 128 + signal.SIGTERM:  # of a queue
        return error.code, INTERRUPTED
    return 1, None


def _end_all(error: BaseException, code: int, line: str | None) -> None:
    """Tell the other processes of an error, and end this one without waiting for any of them."""
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    last = traceback.format_exception_only(error)[-1].strip().splitlines()[0]
    certain = line is not None or not isinstance(error, RuntimeError)  # such as torch's of a peer
    of_all = getattr(error, 'of_all', False)
    first = joined().fail(code, line or error_line(last), certain, of_all)
    if first.rank != joined().rank and first.message != line:
        # this error is mostly the other's: a collective that it has left
        line = first.message + joined().whose(first)
    elif line is None:
        line = ''.join(traceback.format_exception(error))
    if first.rank == joined().rank and 'TORCHELASTIC_ERROR_FILE' in os.environ:
        get_error_handler().record_exception(error)  # for torchrun's summary
    logging.shutdown()
    joined().leave(first.code, line)


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
        check_option(cfg, key, value)
        try:
            cfg.merge_from_dict({key: value})
        except (KeyError, TypeError, IndexError, ValueError) as error:
            raise UserError(f'--cfg-options {key}={value}: {error}') from error


def _similar_configs(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return ''
    return nearest(path.name, [name for name in os.listdir(folder) if name.endswith('.py')])
