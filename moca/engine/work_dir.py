"""One run to a work dir, and one start of it at a time."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.config import Config

from moca.engine.checkpoints import latest_checkpoint
from moca.engine.distributed import rank_of
from moca.errors import UserError

LOCK = '.lock'
"""The file in a work dir that its run holds."""


def check_unused(cfg: Config) -> None:
    """Keep a run that starts anew from writing among the checkpoints of another.

    Args:
        cfg: Of the run, with ``work_dir`` and ``resume``.

    Raises:
        UserError: There are some, and not all of them are damaged.
    """
    newest = None if cfg.get('resume') else latest_checkpoint(cfg.work_dir)
    if newest:
        raise UserError(
            f'{cfg.work_dir} has checkpoints of a run, the newest is {newest.name}. --resume '
            'goes on with it; to start anew give another --work-dir, or move that one away.'
        )


@contextmanager
def alone_in_work_dir(cfg: Config) -> Iterator[None]:
    """Keep other runs out of a run's work dir for as long as the block lasts.

    Two of them would overwrite each other's checkpoints and resume from them. The lock is the
    operating system's: it goes with its process, however that ends, and a forked worker that
    outlives the process does not hold it. A file system without locks is used without.

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
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / LOCK).touch()
    except OSError as error:
        raise UserError(
            f'{folder}: no work dir can be made there ({error.strerror}). Give another --work-dir.'
        ) from error
    with (folder / LOCK).open('r+') as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            raise UserError(
                f'{folder}: another run is at work there ({file.read().strip() or "unknown"}). '
                'Wait for it, end it, or give another --work-dir.'
            ) from error
        except OSError:  # no locks here
            yield
            return
        file.truncate(0)
        file.write(f'process {os.getpid()} on {socket.gethostname()}\n')
        file.flush()
        yield
