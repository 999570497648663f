"""Launchers: their environment is checked before anything waits for a process that never comes."""

from __future__ import annotations

import os
import re

import torch
import torch.distributed
from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log

from moca.errors import UserError

# What mmengine.dist.init_dist reads, and the command that sets it.
_ENVIRONMENT = {
    'pytorch': (
        ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT'),
        'torchrun --nproc_per_node=GPUS tools/{tool} CONFIG --launcher pytorch',
    ),
    'slurm': (
        ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_NODELIST'),
        'srun --kill-on-bad-exit=1 --ntasks=GPUS --ntasks-per-node=GPUS_PER_NODE '
        '--gres=gpu:GPUS_PER_NODE --cpus-per-task=WORKERS_AND_ONE python tools/{tool} CONFIG '
        '--launcher slurm',
    ),
    'mpi': (
        (
            'OMPI_COMM_WORLD_RANK',
            'OMPI_COMM_WORLD_SIZE',
            'OMPI_COMM_WORLD_LOCAL_RANK',
            'MASTER_ADDR',
        ),
        'mpirun -np GPUS -x MASTER_ADDR=HOST python tools/{tool} CONFIG --launcher mpi',
    ),
}


def launched_rank(launcher: str) -> int:
    """Return which process of its launcher this is, before the process group exists; 0 alone."""
    return _from_environment(launcher, 0, default=0)


def launched_processes(launcher: str) -> int:
    """Return how many processes the launcher started; 1 without one."""
    return _from_environment(launcher, 1, default=1)


def processes_here(launcher: str) -> int:
    """Return how many of the launcher's processes are on this machine; 1 without one."""
    tasks = None
    if launcher == 'slurm':  # such as 8(x2), of two nodes with eight each
        tasks = re.match(r'\d+', os.environ.get('SLURM_STEP_TASKS_PER_NODE', ''))
    return int(tasks[0] if tasks else os.environ.get('LOCAL_WORLD_SIZE', 1))


def _from_environment(launcher: str, place: int, default: int) -> int:
    names, _ = _ENVIRONMENT.get(launcher, ((), ''))
    return int(os.environ.get(names[place], default)) if names else default


def check_environment(launcher: str, tool: str) -> None:
    """Verify that a tool was started by the launcher that it was told.

    Raises:
        UserError: naming the missing variables and the command that sets them.
    """
    names, command = _ENVIRONMENT.get(launcher, ((), ''))
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        raise UserError(
            f'--launcher {launcher}: the environment has no {", ".join(missing)}. '
            f'Start the tool by its launcher: {command.format(tool=tool)}'
        )


def prepare_launcher(cfg: Config, tool: str = 'train.py') -> None:
    """Check the environment of ``cfg.launcher`` and choose the backend that the machine has.

    mmengine's own ``init_dist`` calls ``torch.cuda.set_device`` whatever the backend; on a machine
    without a GPU the gloo process group is therefore made here, and `Runner` leaves it alone.

    Raises:
        UserError: variables are missing (`check_environment`), or the launcher needs a GPU.
    """
    launcher = cfg.launcher
    if launcher == 'none':
        return
    check_environment(launcher, tool)
    if torch.cuda.is_available():
        return
    if launcher != 'pytorch':
        raise UserError(
            f'--launcher {launcher} needs a GPU, and this machine has none. '
            f'On CPUs use {_ENVIRONMENT["pytorch"][1].format(tool=tool)}'
        )
    env_cfg = cfg.setdefault('env_cfg', ConfigDict())
    env_cfg.setdefault('dist_cfg', ConfigDict()).backend = 'gloo'
    replace_sync_bn(cfg)
    # mmengine's default names a GPU of this process, which DDP refuses for a model on the CPU.
    wrapper = cfg.get('model_wrapper_cfg') or dict(broadcast_buffers=False)
    cfg.model_wrapper_cfg = {'type': 'MMDistributedDataParallel', 'device_ids': None, **wrapper}
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group('gloo')


def rank_of(cfg: Config) -> int:
    """This process's number in a run that has not begun, by the environment of its launcher."""
    launcher = cfg.get('launcher', 'none')
    return 0 if launcher == 'none' else int(os.environ[_ENVIRONMENT[launcher][0][0]])


def replace_sync_bn(cfg: Config) -> int:
    """Turn every ``SyncBN`` of a config into ``BN``, where processes cannot synchronize it.

    Returns:
        How many were replaced. Statistics are then each process's own: a small difference to the
        recipe which is logged.
    """
    count = _replace_types(cfg._cfg_dict, 'SyncBN', 'BN')
    if count:
        print_log(
            f'{count} SyncBN layers are plain BN: gloo processes cannot share statistics.',
            level=30,
        )
    return count


def _replace_types(node: object, old: str, new: str) -> int:
    if isinstance(node, dict):
        count = sum(_replace_types(value, old, new) for value in node.values())
        if node.get('type') == old:
            node['type'] = new
            count += 1
        return count
    if isinstance(node, list | tuple):
        return sum(_replace_types(value, old, new) for value in node)
    return 0
