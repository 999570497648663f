"""Where the runs of a queue are worked off, by the arguments of ``tools/leaderboard.py``."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from moca.errors import UserError
from moca.results import launching, slurm
from moca.results.queue import POLL, Here, Pool, Run

_OF_SLURM = {
    'partition': '--partition',
    'account': '--account',
    'time': '--time',
    'sbatch': '--sbatch',
}
# what srun is told as well
_OF_SRUN = {'cpus': '--cpus', 'gpus_per_node': '--gpus-per-node'}

_TIME = '1-00:00:00'  # of a job: a day is a common limit; ours


def pool_of(args: argparse.Namespace, tool: str, console: Console) -> Pool:
    """Where runs of a tool go.

    Raises:
        UserError: An option has no meaning there, or something is missing.
    """
    check_place(args)
    command = command_of(args, tool)
    if args.on == 'slurm':
        slurm.check_cluster()
        folder = Path(getattr(args, 'work_dir', None) or 'work_dirs') / 'slurm'
        return slurm.Cluster(launching.runnable(command), folder, parameters_of(args), console)
    shares = launching.places(args.parallel or 1, _gpus_of(args))
    return Here([launching.launcher(command, share) for share in shares])


def poll_of(args: argparse.Namespace) -> float:
    """Seconds between looks at the runs."""
    return slurm.POLL if args.on == 'slurm' else POLL


def check_place(args: argparse.Namespace) -> None:
    """Verify that the options fit together.

    Raises:
        UserError: Naming the one that does not, and the remedy.
    """
    if args.on == 'slurm':
        each = _per_machine(args)
        if args.launcher == 'pytorch' and each != args.gpus:
            raise UserError(
                f'--launcher pytorch: torchrun starts the processes of one machine, and --gpus '
                f'{args.gpus} are of several. Give --launcher slurm.'
            )
        return
    told = {**_OF_SLURM, **({} if args.launcher == 'slurm' else _OF_SRUN)}
    stray = [option for name, option in told.items() if getattr(args, name) is not None]
    if stray:
        raise UserError(f'{", ".join(stray)}: of a cluster. Give --on slurm as well.')
    if args.launcher == 'slurm' and (args.parallel or 1) > 1:
        raise UserError(
            f'--parallel {args.parallel}: srun waits for room by itself. Give --on slurm, which '
            'submits all runs at once.'
        )


def _gpus_of(args: argparse.Namespace) -> int:
    """GPUs of each run: ``--gpus`` counts processes of a launcher."""
    return 1 if args.launcher == 'none' else args.gpus


def _per_machine(args: argparse.Namespace) -> int:
    return launching.per_machine(_gpus_of(args), args.gpus_per_node or launching.PER_NODE)


def command_of(args: argparse.Namespace, tool: str) -> list[str]:
    """The words in front of a tool's arguments, as they are printed.

    In a job the processes are there already, which is why srun is left out of it.
    """
    cpus = args.cpus or launching.CPUS
    per_node = args.gpus_per_node or launching.PER_NODE
    command = launching.command_of(tool, args.launcher, args.gpus, cpus, per_node)
    return (
        command[command.index('python') :] if args.on == 'slurm' and 'srun' in command else command
    )


def parameters_of(args: argparse.Namespace) -> dict[str, Any]:
    """What each job asks for, as submitit names it."""
    each = _per_machine(args)
    tasks = each if args.launcher == 'slurm' else 1
    cpus = (args.cpus or launching.CPUS) * (each // tasks)
    asked: dict[str, Any] = {
        'job_name': 'moca',
        'partition': args.partition,
        'account': args.account,
        'time': slurm.minutes(args.time or _TIME),
        'nodes': _gpus_of(args) // each,
        'ntasks_per_node': tasks,
        'gres': f'gpu:{each}',
        'cpus_per_task': cpus,
        'array_parallelism': args.parallel,
        'stderr_to_stdout': True,
        'additional_parameters': slurm.extra_options(args.sbatch or ()),
    }
    return {name: value for name, value in asked.items() if value not in (None, {})}


def printed(runs: Sequence[Run], tool: str, args: argparse.Namespace) -> Iterator[str]:
    """The lines of ``--dry-run``: every command as it would be started.

    Raises:
        UserError: As `pool_of`, but for what is installed here.
    """
    check_place(args)
    command = command_of(args, tool)
    left = [run for run in runs if not run.finished]
    for run in runs:
        if run.finished:
            yield '# finished: ' + shlex.join([*command, *run.arguments])
    if args.on != 'slurm':
        yield from (shlex.join([*command, *run.arguments]) for run in left)
        return
    titles = {run.folder: run.title for run in left}
    for needs, some in slurm.groups(left).items():
        waits = [titles[need] for need in needs]
        yield '# ' + slurm.submission(len(some), parameters_of(args), waits, args.parallel)
        yield from (shlex.join([*command, *run.arguments]) for run in some)
