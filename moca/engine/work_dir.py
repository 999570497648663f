"""One run to a work dir, and one start of it at a time."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from mmengine.config import Config

from moca.engine.checkpoints import latest_checkpoint
from moca.engine.distributed import rank_of
from moca.errors import UserError
from moca.records.config_values import config_leaves, read_literals, short_text

LOCK = '.lock'
"""The file in a work dir that its run holds."""


def check_unused(cfg: Config) -> None:
    """Keep a run that starts anew from writing among the checkpoints of another.

    Args:
        cfg: Of the run, with ``work_dir`` and ``resume``.

    Raises:
        UserError: There are some, and not all of them are damaged.
    """
    if cfg.get('resume') or rank_of(cfg) != 0:  # one process reads them
        return
    newest = latest_checkpoint(cfg.work_dir)
    if newest:
        raise UserError(
            f'{cfg.work_dir} has checkpoints of a run, the newest is {newest.name}. --resume '
            'goes on with it; to start anew give another --work-dir, or move that one away.'
        )


class InUse(Exception):
    """Another process holds a lock: the text names it."""


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the lock of a file, which is made with its folder, for as long as the block lasts.

    The lock is the operating system's: it goes with its process, however that ends, and a forked
    worker that outlives the process does not hold it. A file system without locks is used without.

    Raises:
        InUse: Another process holds it.
        OSError: The file cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    with path.open('r+') as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            raise InUse(file.read().strip() or 'unknown') from error
        except OSError:  # no locks here
            yield
            return
        file.truncate(0)
        file.write(f'process {os.getpid()} on {socket.gethostname()}\n')
        file.flush()
        yield


def holder(path: Path) -> str | None:
    """Who holds the lock of a file (`held`); None if no other process does, or there is no file.

    Not to be asked by the process that holds it: with the file that is closed here it would lose
    its lock, as POSIX has it. A run that begins at the very moment of the look may find it locked.

    Raises:
        OSError: The file cannot be read.
    """
    try:
        file = path.open()
    except FileNotFoundError:
        return None
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return file.read().strip() or 'unknown'
        except OSError:  # no locks here
            return None
    return None


@contextmanager
def alone_in_work_dir(cfg: Config) -> Iterator[None]:
    """Keep other runs out of a run's work dir for as long as the block lasts (`held`).

    Two of them would overwrite each other's checkpoints and resume from them.

    Args:
        cfg: Of the run, with ``work_dir`` and ``launcher``; the folder is made. Only the first
            process holds it.

    Raises:
        UserError: Another process has the work dir, or nothing can be written there.
    """
    if rank_of(cfg) != 0:
        yield
        return
    folder = Path(cfg.work_dir)
    with ExitStack() as stack:
        try:
            stack.enter_context(held(folder / LOCK))
        except InUse as error:
            raise UserError(
                f'{folder}: another run is at work there ({error}). '
                'Wait for it, end it, or give another --work-dir.'
            ) from error
        except OSError as error:
            raise UserError(
                f'{folder}: no work dir can be made there ({error.strerror}). Give another '
                '--work-dir.'
            ) from error
        yield


# How a run is started, and not what it does.
_STARTING = (
    *('work_dir', 'resume', 'load_from', 'launcher', 'experiment_name', 'log_level'),
    *('env_cfg', 'model_wrapper_cfg', 'visualizer'),
)
_SHOWN = 6  # changes in the message
_ABSENT = object()


def warn_of_changes(runner: Any, checkpoint: Mapping[str, Any]) -> None:
    """Log the fields in which a run that is resumed differs from what its checkpoint says.

    Longer training, another rate or other data may be meant; but a short trial in the same folder
    would be gone on with as well.

    Args:
        runner: mmengine's, with the config of the run that goes on.
        checkpoint: As it was loaded; ``meta.cfg`` is the text of the config that wrote it.
    """
    text = (checkpoint.get('meta') or {}).get('cfg')
    changes = changed_fields(read_literals(text), runner.cfg.to_dict()) if text else []
    if changes:
        more = f' and {len(changes) - _SHOWN} more' if len(changes) > _SHOWN else ''
        runner.logger.warning(
            'The checkpoint to go on from was written under other settings, which now change: '
            f'{", ".join(changes[:_SHOWN])}{more}. Where that is not meant, give those of that '
            'run, or another --work-dir.'
        )


def changed_fields(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """``field: before -> now`` of every value that differs, in the order of the fields' names."""
    before, after = (
        dict(config_leaves({key: value for key, value in each.items() if key not in _STARTING}))
        for each in (earlier, now)
    )
    fields = sorted(before.keys() | after.keys())
    return [
        f'{field}: {_short(before.get(field, _ABSENT))} -> {_short(after.get(field, _ABSENT))}'
        for field in fields
        if before.get(field, _ABSENT) != after.get(field, _ABSENT)
        # what was empty and is filled is told by what it is filled with
        and not any(other.startswith(f'{field}.') for other in fields)
    ]


def _short(value: Any) -> str:
    return 'absent' if value is _ABSENT else short_text(repr(value))
