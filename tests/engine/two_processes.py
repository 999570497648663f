"""A tool run by two processes that nothing watches over, as by plain srun."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from moca.engine import agreement
from tests.processes import reserved_port
from tools import pretrain, train

_STARTING = 300.0
"""Seconds in which both have to have begun: what they are forked from imports everything first."""

Before = Callable[[], None]
"""What one of the processes does before its tool, defined at the top of a module."""


class Ended(NamedTuple):
    """What is left of a process."""

    code: int | None
    output: str


def nothing() -> None:
    """Leave the process as it is."""


def run_two(
    folder: Path,
    tool: str,
    arguments: Sequence[Sequence[str]],
    before: tuple[Before, Before] = (nothing, nothing),
    timeout: float = 300,
) -> list[Ended]:
    """Run ``tools/TOOL.py`` in two processes, forked from one that has imported everything.

    Args:
        folder: For what they print.
        tool: Its name.
        arguments: Of each.
        before: What each does first.
        timeout: Seconds that both have, from when both have begun; who takes longer hangs, and is
            killed.
    """
    context: Any = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload([__name__])
    logs = [folder / f'output{rank}' for rank in range(2)]
    for log in logs:  # of the run before
        log.unlink(missing_ok=True)
    with reserved_port() as port:
        processes = [
            context.Process(target=_process, args=(rank, port, str(log), tool, given, prepare))
            for rank, (log, given, prepare) in enumerate(zip(logs, arguments, before, strict=True))
        ]
        until = time.monotonic() + _STARTING
        for process in processes:
            process.start()
        while not all(log.is_file() for log in logs) and time.monotonic() < until:
            time.sleep(0.02)
        until = time.monotonic() + timeout
        for process in processes:
            process.join(max(0.1, until - time.monotonic()))
            if process.exitcode is None:
                process.kill()
                process.join()
    return [
        Ended(process.exitcode, log.read_text() if log.is_file() else '')
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
    agreement._END = 1000.0  # longer than a test may take: nobody is to wait for that
    launcher = dict(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=2, MASTER_PORT=port)
    os.environ.update(MASTER_ADDR='localhost', **{k: str(v) for k, v in launcher.items()})
    before()
    main = dict(pretrain=pretrain, train=train)[tool].main
    sys.exit(main([*arguments, '--launcher', 'pytorch']))
