"""What a run goes on from: decided once, by its first process, and seen by all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from mmengine.config import Config
from mmengine.logging import print_log

from moca.engine.agreement import Processes, numbers
from moca.engine.checkpoints import latest_checkpoint
from moca.errors import AgreedError, UserError


def settle_resume(cfg: Config, asked: str | None, processes: Processes) -> None:
    """Set ``resume`` and ``load_from`` of a run, the same on all processes.

    The first process chooses: it alone reads the work dir's checkpoints through for damage. Every
    process then looks for the file, since mmengine reads it on each.

    Args:
        cfg: Of the run, with ``work_dir``; changed.
        asked: ``--resume``: a file, ``'auto'`` for the newest of the work dir, or None for what
            the config says.
        processes: Of the run.

    Raises:
        UserError: No such file.
        AgreedError: On all processes: there is none, or not on each, or one of another size.
    """
    if asked is None and cfg.get('resume') and not cfg.get('load_from'):
        asked = 'auto'  # mmengine would let every process choose

    def choose() -> tuple[bool, str | None]:
        if asked == 'auto':
            latest = latest_checkpoint(cfg.work_dir)
            return latest is not None, str(latest) if latest else None
        if not asked:
            return bool(cfg.get('resume')), cfg.get('load_from')
        if not Path(asked).is_file():
            raise UserError(
                f'--resume {asked}: no such file. Name a checkpoint that a run has written, '
                f'or give --resume alone to go on from the newest one in {cfg.work_dir}.'
            )
        return True, asked

    resume, path = processes.first('checkpoint to start from', choose)
    if asked == 'auto' and path is None and processes.rank == 0:
        print_log(f'--resume: no checkpoint in {cfg.work_dir} yet, starting anew', 'current')
    if processes.size > 1 and path is not None and '://' not in path:
        _check_seen(path, processes)
    if asked or path is not None:
        cfg.resume, cfg.load_from = resume, path


def _check_seen(path: str, processes: Processes) -> None:
    """Verify that every process can read a file, and that it has one size."""

    def look() -> int | None:
        with contextlib.suppress(OSError):
            os.listdir(Path(path).parent)  # makes NFS ask its server again
            size = os.stat(path).st_size
            return size if os.access(path, os.R_OK) else None
        return None

    sizes = processes.everywhere(f'{Path(path).name} is there', look)
    blind = [rank for rank, size in enumerate(sizes) if size is None]
    other = [rank for rank, size in enumerate(sizes) if size not in (None, sizes[0])]
    if blind or other:
        fault = 'cannot be read by' if blind else 'is another file for'
        raise AgreedError(
            f'{path}: this checkpoint {fault} {numbers(blind or other)} of {processes.size}. Put '
            'the work dir on a file system that all nodes share, or copy the file to the same '
            'path on every node.'
        )
