"""Processes that share a step, for tests of more than one."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch.multiprocessing as mp


def run_processes(
    fn: Callable[..., None], args: tuple[Any, ...], count: int = 2, start_method: str = 'forkserver'
) -> None:
    """Run ``fn(rank, *args)`` in ``count`` processes, and raise what the first that fails raised.

    A process group is kept alive by the models that it served, and with it gloo's threads, even
    after `destroy_process_group`. One that is still there when the interpreter takes itself down
    aborts the process now and then, so a process that has done its work leaves by `os._exit`.

    Args:
        fn: A function of a module.
        args: What it is given beside its rank.
        count: Processes.
        start_method: ``forkserver``, where a process that does nothing else has imported the
            methods once for all tests, and keeps the environment of its own start; ``spawn``, or
            ``fork`` for what takes no threads along.
    """
    if start_method == 'forkserver':
        multiprocessing.set_forkserver_preload(['moca.pretrain'])
    mp.start_processes(_work, (fn, args), nprocs=count, start_method=start_method)


def _work(rank: int, fn: Callable[..., None], args: tuple[Any, ...]) -> None:
    fn(rank, *args)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


@contextmanager
def reserved_port() -> Iterator[int]:
    """Yield a port for a server of a test, which the system gives to nobody else meanwhile.

    The port of a socket that was closed again may be another test's, or a connection's, by the time
    when it is wanted. This one stays bound, and leaves it to a server that reuses addresses as
    well, as torch's store does.
    """
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(('localhost', 0))
        yield held.getsockname()[1]
