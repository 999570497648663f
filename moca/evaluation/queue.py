"""Measure checkpoints by protocols: a queue of `tools/train.py` runs that can be taken up again."""

from __future__ import annotations

import itertools
import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from moca.backbone.checkpoint import check_checkpoint
from moca.engine.launch import read_config
from moca.engine.log_lines import last_iteration, tail
from moca.engine.processes import Launch, Process, start
from moca.errors import UserError
from moca.transfer.labels import arch_label, checkpoint_label, random_label, run_folder
from moca.transfer.overrides import set_arch
from moca.transfer.record import RECORD

RANDOM = 'random'
"""In the place of a checkpoint: random weights."""

_TRAIN = Path(__file__).parents[2] / 'tools' / 'train.py'

POLL = 1.0
"""Seconds between looks at the running process."""

_FINISHED, _FAILED, _SKIPPED = 'finished', 'failed', 'was finished before'


@dataclass(frozen=True)
class Job:
    """One run of `tools/train.py`.

    Attributes:
        title: task, checkpoint, seed and subset, to be read.
        checkpoint: file, or `RANDOM`.
        folder: its work dir.
        arguments: of `tools/train.py`.
    """

    title: str
    checkpoint: str
    folder: Path
    arguments: tuple[str, ...]

    @property
    def record(self) -> dict[str, Any]:
        """What is in its folder so far; empty if nothing."""
        try:
            return dict(json.loads((self.folder / RECORD).read_text()))
        except (OSError, ValueError):
            return {}

    @property
    def finished(self) -> bool:
        """Whether its result is there."""
        return self.record.get('status') == 'finished'


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
        checkpoints: files, or `RANDOM`.
        tasks: names such as ``cityscapes/linear``, or paths of configs.
        seeds: each protocol is repeated with every one.
        subsets: numbers of training pictures; none for all of them.
        arch: timm name, None for the configs' own.
        data_roots: folder by the first part of a task's name (``cityscapes``).
        options: further arguments of `tools/train.py`, such as ``--amp``.
        configs: where tasks are looked up.
    """

    checkpoints: Sequence[str]
    tasks: Sequence[str]
    seeds: Sequence[int] = (0,)
    subsets: Sequence[int | None] = (None,)
    arch: str | None = None
    data_roots: dict[str, str] = field(default_factory=dict)
    options: Sequence[str] = ()
    configs: Path = Path('configs')


def make_jobs(plan: Plan) -> list[Job]:
    """Every run of a plan, in the order: task, subset, seed, checkpoint.

    Raises:
        UserError: if a task has no config, a checkpoint does not fit, or a data root names no task.
    """
    configs = {task: task_config(task, plan) for task in plan.tasks}
    stray = set(plan.data_roots) - {task.split('/')[0] for task in plan.tasks}
    if stray:
        raise UserError(
            f'--data-root {", ".join(sorted(stray))}: no task begins so. Give TASK=DIR with the '
            f'first part of one of {", ".join(plan.tasks)}.'
        )
    jobs = []
    for (task, cfg), subset, seed, checkpoint in itertools.product(
        configs.items(), plan.subsets, plan.seeds, plan.checkpoints
    ):
        jobs.append(_job(task, cfg, checkpoint, seed, subset, plan))
    _check_folders(jobs)
    return jobs


def _check_folders(jobs: Sequence[Job]) -> None:
    """Two runs in one folder would pass for each other, and so would another file's result."""
    taken: dict[Path, Job] = {}
    for job in jobs:
        other = taken.setdefault(job.folder, job)
        if other is not job:
            raise UserError(
                f'{job.checkpoint} and {other.checkpoint} would both be measured in {job.folder}, '
                'which is named after the file. Rename one of them, or put it below another folder '
                'as epoch_N.pth.'
            )
        measured = (job.record.get('checkpoint') or {}).get('path')
        wanted = None if job.checkpoint == RANDOM else str(Path(job.checkpoint).resolve())
        if job.record and (measured and str(Path(measured).resolve())) != wanted:
            raise UserError(
                f'{job.folder} has measured {measured or "random weights"}, not {job.checkpoint}. '
                'Rename the checkpoint, or move that folder away.'
            )


def task_config(task: str, plan: Plan) -> Config:
    """The config of a task, with the plan's architecture.

    Raises:
        UserError: if there is none, with the names that there are.
    """
    folders = [plan.configs / kind for kind in ('segmentation', 'detection')]
    candidates = [Path(task), *(folder / f'{task}.py' for folder in folders)]
    path = next((path for path in candidates if path.is_file()), None)
    if path is None:
        known = sorted(
            str(found.relative_to(folder).with_suffix(''))
            for folder in folders
            for found in folder.glob('*/*.py')
        )
        raise UserError(f'--tasks {task}: no such protocol. There are {", ".join(known)}.')
    cfg = read_config(path)
    if plan.arch:
        set_arch(cfg, plan.arch)
    return cfg


def _job(task: str, cfg: Config, checkpoint: str, seed: int, subset: int | None, plan: Plan) -> Job:
    spec = cfg.model.backbone.arch
    arch = arch_label(spec)
    arguments = [str(cfg.filename), '--seed', str(seed), '--resume']
    if checkpoint == RANDOM:
        measured: dict[str, Any] = {'name': random_label(spec), 'branch': None}
    else:
        info = check_checkpoint(checkpoint, spec, img_size=cfg.model.backbone.get('img_size'))
        measured = {'name': checkpoint_label(checkpoint), 'branch': info.branch}
        arguments += ['--checkpoint', checkpoint]
    if plan.arch:
        arguments += ['--arch', plan.arch]
    if subset is not None:
        arguments += ['--subset', str(subset)]
    if root := plan.data_roots.get(task.split('/')[0]):
        arguments += ['--data-root', root]
    folder = run_folder(cfg.protocol.name, measured, arch, seed, subset)
    title = f'{task}, {measured["name"]}, seed {seed}'
    if subset is not None:
        title += f', {subset} pictures'
    return Job(title, checkpoint, folder, (*arguments, '--work-dir', str(folder), *plan.options))


def launcher(kind: str, gpus: int) -> Launch:
    """How runs are started: by this interpreter, by torchrun or by srun, with output to a file."""
    command = {
        'none': [sys.executable],
        'pytorch': [
            *(sys.executable, '-m', 'torch.distributed.run', '--standalone'),
            f'--nproc_per_node={gpus}',
        ],
        'slurm': ['srun', f'--ntasks={gpus}', f'--gres=gpu:{gpus}', sys.executable],
    }[kind]
    suffix = [] if kind == 'none' else ['--launcher', kind]

    def launch(arguments: Sequence[str], log: Path) -> Process:
        return start([*command, str(_TRAIN), *arguments, *suffix], log)

    return launch


def run_jobs(
    jobs: Sequence[Job], launch: Launch, console: Console, poll: float = POLL
) -> dict[str, list[Job]]:
    """Run what has no result yet, one after the other; a failure does not stop the rest.

    A run that was interrupted goes on from its newest checkpoint. Its output is ``queue.log`` in
    its work dir.

    Returns:
        Jobs by outcome: ``finished``, ``failed``, ``was finished before``.
    """
    outcomes: dict[str, list[Job]] = {_FINISHED: [], _FAILED: [], _SKIPPED: []}
    for number, job in enumerate(jobs, start=1):
        where = f'[{number}/{len(jobs)}] {job.title}'
        if job.finished:
            outcomes[_SKIPPED].append(job)
            console.print(f'{where}: {_SKIPPED} ({job.folder})', markup=False, soft_wrap=True)
            continue
        console.print(f'{where}: {job.folder}', markup=False, soft_wrap=True)
        problem = _run(job, launch, console, poll)
        outcomes[_FAILED if problem else _FINISHED].append(job)
        if problem:
            console.print(f'  failed: {problem}', style='red', markup=False, soft_wrap=True)
    return outcomes


def _run(job: Job, launch: Launch, console: Console, poll: float) -> str | None:
    """Run one job to its end; returns what went wrong."""
    log = job.folder / 'queue.log'
    columns = (TextColumn('  {task.description}'), BarColumn(bar_width=28), TimeElapsedColumn())
    process = launch(job.arguments, log)
    try:
        with Progress(*columns, console=console, transient=True) as progress:
            bar = progress.add_task('starting', total=None)
            while (code := process.poll()) is None:
                if found := last_iteration(log):
                    done, total, loss = found
                    text = f'step {done} of {total}, loss {loss}'
                    progress.update(bar, completed=done, total=total, description=text)
                time.sleep(poll)
    except BaseException:
        process.terminate()
        process.wait(timeout=60)
        raise
    if code == 0 and job.finished:
        return None
    lines = [line for line in tail(log, 8_000).splitlines() if line.strip()]
    said = next((line for line in reversed(lines) if re.search(r'\w*[Ee]rror\b', line)), '')
    return f'{said or f"exit code {code}"} (see {log})'
