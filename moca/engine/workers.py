"""Workers of data loaders: are there CPUs for them, and do they keep up with training?"""

from __future__ import annotations

import os
import warnings
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

# Of a step's time; ours. Below it, faster loading would gain less than a tenth or so, since some
# waiting is left where batches only just keep up.
_WAITING = 0.2


def usable_cpus() -> int:
    """CPUs that this process may run on: those of its SLURM task, not all that there are."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_cpus(cfg: Config, processes: int = 1) -> None:
    """Warn if the training loader's workers and its process are more than the CPUs.

    It takes the place of torch's own warning, which counts the CPUs of one process for the workers
    of it alone.

    Args:
        cfg: Of a run.
        processes: On this machine.
    """
    warnings.filterwarnings('ignore', 'This DataLoader will create')
    loader = cfg.get('train_dataloader') or {}
    workers, cpus = loader.get('num_workers', 0), usable_cpus()
    if workers and processes * (workers + 1) > cpus:
        each = f' of each of {processes} processes' if processes > 1 else ''
        print_log(
            f'train_dataloader.num_workers={workers}: the {workers} workers and the training'
            f'{each} share {cpus} CPUs and will wait for each other. Ask for '
            f'{processes * (workers + 1)} (SLURM: --cpus-per-task={workers + 1}), or give '
            f'--cfg-options train_dataloader.num_workers={max(cpus // processes - 1, 0)}.',
            'current',
            level=30,
        )


def count_waiting(hub: Any, seconds: float) -> None:
    """Add what a step has waited for its loader beyond its first batch, which mmengine times.

    Args:
        hub: mmengine's message hub, with the ``data_time`` that its `IterTimerHook` noted last;
            where there is none, nothing is kept.
        seconds: Waited for further parts of the step, and for the first of the next.
    """
    if 'train/data_time' in hub.log_scalars:
        hub.get_scalar('train/data_time').data[0][-1] += seconds


def loader_share(hub: Any, steps: int) -> float | None:
    """Share of the time of the last steps in which training waited for its data loader.

    Args:
        hub: mmengine's message hub, which `IterTimerHook` tells the times.
        steps: How many.

    Returns:
        Between 0 and 1, or None where no times are kept.
    """
    if not {'train/time', 'train/data_time'} <= hub.log_scalars.keys():
        return None
    waiting, whole = (hub.get_scalar(f'train/{name}').data[0] for name in ('data_time', 'time'))
    # the step that is being reported has been loaded for, but has not ended
    count = min(steps, len(whole), len(waiting) - 1)
    total = float(whole[-count:].sum()) if count > 0 else 0.0
    return min(1.0, float(waiting[-count - 1 : -1].sum()) / total) if total > 0 else None


def bottleneck_text(share: float, workers: int) -> str | None:
    """What to say of the share of waiting: None where training hardly waits."""
    if share < _WAITING:
        return None
    return (
        f'Training waits for its data loader {share:.0%} of the time ({workers} workers, '
        f'{usable_cpus()} CPUs). Give more of both (train_dataloader.num_workers), smaller or '
        'prepared image files, or a faster disk.'
    )
