"""A tool run by two processes that nothing watches over, as by plain srun."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from moca.engine import agreement
from tools import pretrain, train

Before = Callable[[], None]
"""What one of the processes does before its tool, defined at the top of a module."""


class Ended(NamedTuple):
    """What is left of a process: the time is until both had ended."""

    code: int | None
    output: str
    seconds: float


def nothing() -> None:
    """Leave the process as it is."""


def run_two(
    folder: Path,
    tool: str,
    arguments: Sequence[Sequence[str]],
    before: tuple[Before, Before] = (nothing, nothing),
    timeout: float = 60,
) -> list[Ended]:
    """Run ``tools/TOOL.py`` in two processes, forked from one that has imported everything."""
    context: Any = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload([__name__])
    with socket.socket() as free:
        free.bind(('localhost', 0))
        port = free.getsockname()[1]
    logs = [folder / f'output{rank}' for rank in range(2)]
    processes = [
        context.Process(target=_process, args=(rank, port, str(log), tool, given, prepare))
        for rank, (log, given, prepare) in enumerate(zip(logs, arguments, before, strict=True))
    ]
    start = time.monotonic()
    for process in processes:
        process.start()
    for process in processes:
        process.join(max(0.1, start + timeout - time.monotonic()))
        if process.exitcode is None:
            process.kill()
            process.join()
    seconds = time.monotonic() - start
    return [
        Ended(process.exitcode, log.read_text(), seconds)
        for process, log in zip(processes, logs, strict=True)
    ]


def _process(
    rank: int, port: int, log: str, tool: str, arguments: Sequence[str], before: Before
) -> None:
    with open(log, 'w') as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    sys.argv[:] = [f'tools/{tool}.py']
    torch.set_num_threads(1)
    agreement._LOOK = 0.1
    launcher = dict(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=2, MASTER_PORT=port)
    os.environ.update(MASTER_ADDR='localhost', **{k: str(v) for k, v in launcher.items()})
    before()
    main = dict(pretrain=pretrain, train=train)[tool].main
    sys.exit(main([*arguments, '--launcher', 'pytorch']))
