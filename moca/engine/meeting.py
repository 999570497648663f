"""The processes of a launcher meet before anything else, and know each other from then on."""

from __future__ import annotations

import os
import subprocess
from datetime import timedelta

import torch.distributed as dist

from moca.engine.agreement import Processes, launcher_has_store
from moca.engine.distributed import check_environment, launched_processes, launched_rank
from moca.errors import UserError

_joined: Processes | None = None


def join(launcher: str, tool: str) -> None:
    """Meet the other processes of a launcher, and from now on end with any that fails.

    Args:
        launcher: Of ``moca.command_line.LAUNCHERS``.
        tool: File name of the tool, for messages.

    Raises:
        UserError: The launcher's environment is incomplete, or the first process does not answer.
    """
    check_environment(launcher, tool)
    processes_of(launcher).watch()


def joined() -> Processes:
    """The processes that were joined; a single one before that and without a launcher."""
    return _joined or Processes()


def processes_of(launcher: str) -> Processes:
    """The processes of a launcher, whose environment was checked."""
    global _joined
    size = launched_processes(launcher)
    if size == 1:
        return Processes()
    if _joined is None and dist.is_initialized():  # by somebody else's code
        known = dist.distributed_c10d._get_default_store()
        return Processes(
            dist.get_rank(), dist.get_world_size(), lambda _: dist.PrefixStore('moca', known)
        )
    if _joined is None:
        _joined = _meet(launcher, size)
    return _joined


def _meet(launcher: str, size: int) -> Processes:
    rank = launched_rank(launcher)
    # as mmengine's init_dist finds them
    if launcher == 'slurm' and 'MASTER_ADDR' not in os.environ:
        nodes = ['scontrol', 'show', 'hostname', os.environ['SLURM_NODELIST']]
        found = subprocess.run(nodes, capture_output=True, text=True, check=True)
        os.environ['MASTER_ADDR'] = found.stdout.split()[0]
    port = int(os.environ.setdefault('MASTER_PORT', '29500'))
    host = os.environ['MASTER_ADDR']
    hosts = rank == 0 and not launcher_has_store()
    server: list[dist.Store] = []
    # torchrun may start the processes again beside the same store
    attempt = os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')

    def connect(seconds: float) -> dist.Store:
        try:
            store = dist.TCPStore(
                *(host, port, None, hosts and not server),
                timeout=timedelta(seconds=seconds),
                wait_for_workers=False,
                multi_tenant=True,  # the process group will ask for the same port
            )
        except RuntimeError as error:
            raise UserError(
                f'MASTER_ADDR:MASTER_PORT {host}:{port}: '
                + (
                    'this port cannot be had; export another MASTER_PORT.'
                    if hosts
                    else f'the first process did not answer within {seconds:.0f} s. See what it '
                    'wrote, and whether a firewall is between.'
                )
            ) from error
        server.append(store)
        return dist.PrefixStore(f'moca/{attempt}', store)

    return Processes(rank, size, connect, hosts)
