"""How a queue starts runs of a tool: by this interpreter, by torchrun or by srun; on which GPUs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from moca.engine.processes import Launch, Process, start
from moca.errors import UserError

TOOLS = Path(__file__).parents[2] / 'tools'

CPUS = 11
"""Of each process on a cluster, as in ``tools/slurm_train.sh``: ten workers of a loader and one."""

PER_NODE = 8
"""GPUs of a machine of a cluster, likewise."""


def command_of(
    tool: str, kind: str, gpus: int, cpus: int = CPUS, per_node: int = PER_NODE
) -> list[str]:
    """The words in front of a tool's arguments, and the launcher that it is told behind its name.

    Args:
        tool: File name of the tool.
        kind: ``none``, ``pytorch`` (torchrun) or ``slurm`` (srun).
        gpus: Processes with a launcher.
        cpus: Of each of srun's processes.
        per_node: GPUs of each of srun's machines.

    Raises:
        UserError: srun's machines would have unequal shares.
    """
    before = {
        'none': ['python'],
        'pytorch': ['torchrun', '--standalone', f'--nproc_per_node={gpus}'],
    }
    if kind == 'slurm':
        each = per_machine(gpus, per_node)
        before['slurm'] = [
            *('srun', '--kill-on-bad-exit=1', f'--ntasks={gpus}', f'--ntasks-per-node={each}'),
            *(f'--gres=gpu:{each}', f'--cpus-per-task={cpus}', 'python'),
        ]
    told = [] if kind == 'none' else ['--launcher', kind]
    return [*before[kind], f'tools/{tool}', *told]


def per_machine(gpus: int, per_node: int) -> int:
    """How many processes each machine gets.

    Raises:
        UserError: There is a rest.
    """
    each = min(gpus, per_node)
    if gpus % each:
        raise UserError(
            f'--gpus {gpus}: machines with {per_node} GPUs each would get unequal shares. Give a '
            f'multiple of {per_node}, or --gpus-per-node.'
        )
    return each


def runnable(command: Sequence[str]) -> list[str]:
    """A command of `command_of` with this interpreter, its torchrun, and the path of the tool."""
    words: list[str] = []
    for word in command:
        if word == 'python':
            words.append(sys.executable)
        elif word == 'torchrun':
            words += [sys.executable, '-m', 'torch.distributed.run']
        elif word.startswith('tools/'):
            words.append(str(TOOLS / word.removeprefix('tools/')))
        else:
            words.append(word)
    return words


def launcher(command: Sequence[str], environment: dict[str, str]) -> Launch:
    """How a run is started here.

    Args:
        command: Of `command_of`.
        environment: What the run gets beside this process's.
    """
    words = runnable(command)

    def launch(arguments: Sequence[str], log: Path) -> Process:
        return start([*words, *arguments], log, **environment)

    return launch


def places(parallel: int, gpus: int) -> list[dict[str, str]]:
    """What each of several runs at a time gets of this machine: GPUs of its own, else threads.

    Args:
        parallel: Runs at a time; a single one has the whole machine.
        gpus: Processes of each.

    Returns:
        Variables of its environment, for each run.

    Raises:
        UserError: There are too few GPUs.
    """
    if parallel == 1:
        return [{}]
    visible = visible_gpus()
    if not visible:
        threads = max(1, len(os.sched_getaffinity(0)) // (parallel * gpus))
        # what the user has chosen stays
        given = {} if 'OMP_NUM_THREADS' in os.environ else {'OMP_NUM_THREADS': str(threads)}
        return [dict(given) for _ in range(parallel)]
    if len(visible) < parallel * gpus:
        raise UserError(
            f'--parallel {parallel}: {parallel * gpus} GPUs are needed, {gpus} for each run, and '
            f'{len(visible)} are visible. Give --parallel {max(1, len(visible) // gpus)}.'
        )
    shares = [visible[place * gpus : (place + 1) * gpus] for place in range(parallel)]
    return [{'CUDA_VISIBLE_DEVICES': ','.join(share)} for share in shares]


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    import torch  # takes seconds

    count = torch.cuda.device_count()
    named = os.environ.get('CUDA_VISIBLE_DEVICES')
    names = [str(number) for number in range(count)] if named is None else named.split(',')
    return [name.strip() for name in names[:count]]
