"""Shared memory, through which a loader's workers hand their batches over: is there enough?"""

from __future__ import annotations

import os

from moca.errors import UserError

FOLDER = '/dev/shm'
_REMEDY = (
    'Give the container more (docker run --shm-size=8g or --ipc=host; in Kubernetes an emptyDir of '
    'medium Memory at /dev/shm), or set num_workers=0 in the data loaders.'
)


def shared_memory_error(error: BaseException) -> str | None:
    """The line that stands for a worker's death by a full shared memory; None for other errors.

    The kernel ends a worker by SIGBUS, and torch raises a `RuntimeError` that says so, often as the
    cause of another one.
    """
    if not isinstance(error, RuntimeError):
        return None
    if 'Bus error' in str(error):
        return (
            f'a worker of a data loader found no more shared memory: {FOLDER} is full, of '
            f'{_mib(_status().f_blocks)}. {_REMEDY}'
        )
    return shared_memory_error(error.__cause__) if error.__cause__ else None


def check_shared_memory(batch: int, workers: int, processes: int = 1) -> None:
    """Verify that the batches on which workers are at work fit into the shared memory.

    Args:
        batch: Bytes of one.
        workers: Of each process; none needs no shared memory.
        processes: On this machine.

    Raises:
        UserError: They do not.
    """
    if not os.path.isdir(FOLDER):
        return
    status = _status()
    need = batch * workers * processes
    if need > status.f_bavail * status.f_frsize:
        raise UserError(
            f'{FOLDER} has {_mib(status.f_bavail)} free, and the batches of {workers} workers of '
            f'each of {processes} processes take {need / 2**20:,.0f} MiB. {_REMEDY}'
        )


def _status() -> os.statvfs_result:
    return os.statvfs(FOLDER)


def _mib(blocks: int) -> str:
    return f'{blocks * _status().f_frsize / 2**20:,.0f} MiB'
