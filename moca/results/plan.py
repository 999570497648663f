"""Measure checkpoints by protocols: which runs of `tools/train.py` that takes."""

from __future__ import annotations

import functools
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config

from moca.checkpoints.loading import check_checkpoint
from moca.engine.cli import parse_cfg_options, read_config
from moca.errors import UserError
from moca.results.options import check_owners, options_of
from moca.results.queue import Run
from moca.transfer.overrides import set_arch
from moca.transfer.run_names import (
    RANDOM,
    arch_label,
    arch_of_each,
    branch_of_each,
    checkpoint_label,
    random_label,
    run_folder,
)
from moca.transfer.run_record import RECORD, file_digest
from moca.transfer.run_record import options_of as told_options

CONFIGS = Path(__file__).parents[2] / 'configs'

# Configs of these are in a folder of each data set, and tasks are called after it:
# ``cityscapes/linear``.
_BY_DATA_SET = ('segmentation', 'detection')
# Tasks of these are called after the folder: ``imagenet/knn``, ``dense/davis_dino``.
_BY_KIND = ('imagenet', 'dense', 'depth')


@dataclass(frozen=True)
class Job(Run):
    """One run of `tools/train.py`.

    Attributes:
        checkpoint: file, or `RANDOM`.
        options: data root and ``--cfg-options``, as `run.json` keeps them.
        protocol: the name of what is measured.
    """

    checkpoint: str
    options: dict[str, Any] = field(default_factory=dict)
    protocol: str = ''

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
        subsets: numbers of training images; none for all of them.
        archs: timm names, one for all checkpoints or one for each; none for the configs' own.
        branches: of files that have both, likewise; none for their families' default.
        data_roots: folder by a part of a task's name: ``cityscapes`` of ``cityscapes/linear``,
            ``imagenet`` of ``imagenet/knn``, ``davis`` of ``dense/davis_dino``; of several parts
            of one name, the last counts.
        options: further arguments of `tools/train.py`, such as ``--amp``.
        cfg_options: ``KEY=VALUE`` for all of them, ``CHECKPOINT:KEY=VALUE`` for one, by its path or
            its name in the table.
        notes: what is to stand beneath the table, by checkpoint.
        suffix: of the work dirs' names.
        protocol_suffix: of the protocol's name, where an option of the tool changes it.
        configs: where tasks are looked up.
    """

    checkpoints: Sequence[str]
    tasks: Sequence[str]
    seeds: Sequence[int] = (0,)
    subsets: Sequence[int | None] = (None,)
    archs: Sequence[str] = ()
    branches: Sequence[str] = ()
    data_roots: dict[str, str] = field(default_factory=dict)
    options: Sequence[str] = ()
    cfg_options: Sequence[str] = ()
    notes: Mapping[str, str] = field(default_factory=dict)
    suffix: str = ''
    protocol_suffix: str = ''
    configs: Path = CONFIGS


def make_jobs(plan: Plan) -> list[Job]:
    """Every run of a plan, in the order: task, subset, seed, checkpoint.

    Raises:
        UserError: if a task has no config, a checkpoint does not fit, or a data root names no task.
    """
    archs = arch_of_each(plan.archs, plan.checkpoints)
    branches = branch_of_each(plan.branches, plan.checkpoints)
    pairs = list(zip(plan.checkpoints, archs, branches, strict=True))
    names = [name for checkpoint in plan.checkpoints for name in names_of(checkpoint)]
    check_owners(plan.cfg_options, names, 'checkpoint')
    configs = {
        (task, arch): task_config(task, arch, plan.configs)
        for task in plan.tasks
        for arch in dict.fromkeys(archs)
    }
    stray = set(plan.data_roots) - {part for task in plan.tasks for part in task_parts(task)}
    if stray:
        raise UserError(
            f'--data-root {", ".join(sorted(stray))}: no task is of that. Give NAME=DIR with a '
            f'part (between / and _) of the name of one of {", ".join(plan.tasks)}.'
        )
    for name, root in plan.data_roots.items():
        if not Path(root).is_dir():
            raise UserError(f'--data-root {name}={root}: no such folder.')
    jobs = []
    for task, subset, seed, (checkpoint, arch, branch) in itertools.product(
        plan.tasks, plan.subsets, plan.seeds, pairs
    ):
        jobs.append(_job(task, configs[task, arch], checkpoint, arch, branch, seed, subset, plan))
    _check_folders(jobs)
    return jobs


def _check_folders(jobs: Sequence[Job]) -> None:
    """Two runs in one folder would pass for each other, and so would another file's result."""
    taken: dict[Path, Job] = {}
    digest = functools.cache(file_digest)  # of many runs of one large file, and only where asked
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
        read = (job.record.get('checkpoint') or {}).get('sha256')
        if read is not None and read != digest(job.checkpoint):
            raise UserError(
                f'{job.folder} has measured another file of the name {job.checkpoint}: it has been '
                'written anew since. Move that folder away.'
            )
        name = job.record.get('protocol')
        if job.protocol and name and name != job.protocol:
            raise UserError(
                f'{job.folder} has measured {name}, not {job.protocol}. Move that folder away.'
            )
        told = job.record.get('options')
        if job.finished and told is not None and told != job.options:
            raise UserError(
                f'{job.folder} was measured with {told}, not {job.options}. Give the same '
                '--data-root and --cfg-options, or move that folder away.'
            )


def task_parts(task: str) -> list[str]:
    """What ``--data-root`` may call the data of a task by: the parts of its name, in order.

    Example:
        >>> task_parts('dense/in-context_voc')
        ['dense', 'in-context', 'voc']
    """
    return [part for part in re.split(r'[/_]', task.removesuffix('.py')) if part]


def task_path(task: str, root: Path = CONFIGS) -> Path | None:
    """The config of a task below ``root``, or a config by its path; None if there is none."""
    candidates = [Path(task), *(root / kind / f'{task}.py' for kind in _BY_DATA_SET)]
    if task.split('/')[0] in _BY_KIND:
        candidates.append(root / f'{task}.py')
    return next((path for path in candidates if path.is_file()), None)


def known_tasks(root: Path = CONFIGS) -> list[str]:
    """The names of all tasks below ``root``, sorted."""
    found = {
        path.relative_to(root / kind).with_suffix('')
        for kind in _BY_DATA_SET
        for path in (root / kind).glob('*/*.py')
    }
    found |= {
        path.relative_to(root).with_suffix('')
        for kind in _BY_KIND
        for path in (root / kind).glob('*.py')
    }
    return sorted(map(str, found))


def task_config(task: str, arch: str | None, root: Path) -> Config:
    """The config of a task, with another architecture if one is given; tasks are below ``root``.

    Raises:
        UserError: if there is none, with the names that there are.
    """
    path = task_path(task, root)
    if path is None:
        known = ', '.join(known_tasks(root))
        raise UserError(f'--tasks {task}: no such protocol. There are {known}.')
    if path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    cfg = read_config(path)
    if arch:
        set_arch(cfg, arch)
    return cfg


def names_of(checkpoint: str) -> list[str]:
    """What a checkpoint may be called before the colon of an option."""
    return [checkpoint] if checkpoint == RANDOM else [checkpoint, checkpoint_label(checkpoint)]


def _job(
    task: str,
    cfg: Config,
    checkpoint: str,
    arch: str | None,
    branch: str | None,
    seed: int,
    subset: int | None,
    plan: Plan,
) -> Job:
    spec = cfg.model.backbone.arch
    arguments = [str(cfg.filename), '--seed', str(seed), '--resume']
    if checkpoint == RANDOM:
        measured: dict[str, Any] = {'name': random_label(spec), 'branch': None}
    else:
        size = cfg.model.backbone.get('img_size')
        info = check_checkpoint(checkpoint, spec, branch, img_size=size)
        measured = {'name': checkpoint_label(checkpoint), 'branch': info.branch}
        arguments += ['--checkpoint', checkpoint]
        if branch:
            arguments += ['--branch', branch]
    if arch:
        arguments += ['--arch', arch]
    if subset is not None:
        arguments += ['--subset', str(subset)]
    named = [part for part in task_parts(task) if part in plan.data_roots]
    root = plan.data_roots[named[-1]] if named else None
    if root:
        arguments += ['--data-root', root]
    protocol = cfg.protocol.name + plan.protocol_suffix
    folder = run_folder(protocol, measured, arch_label(spec), seed, subset)
    folder = folder.with_name(folder.name + plan.suffix)
    title = f'{task}, {measured["name"]}, seed {seed}'
    if subset is not None:
        title += f', {subset} images'
    arguments += ['--work-dir', str(folder), *plan.options]
    if note := plan.notes.get(checkpoint):
        arguments += ['--note', note]
    everybody = [name for each in plan.checkpoints for name in names_of(each)]
    settings = options_of(names_of(checkpoint), plan.cfg_options, everybody)
    if settings:
        arguments += ['--cfg-options', *settings]
    options = told_options(root, parse_cfg_options(settings))
    return Job(title, folder, tuple(arguments), checkpoint, options, protocol)
