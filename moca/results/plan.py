"""Measure checkpoints by protocols: which runs of `tools/train.py` that takes."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config

from moca.backbone.arch import ArchSpec
from moca.checkpoints.changes import change_arguments
from moca.checkpoints.loading import AUTO, arch_of_file, check_checkpoint
from moca.checkpoints.run_names import (
    RANDOM,
    arch_label,
    arch_of_each,
    branch_of_each,
    checkpoint_label,
    random_label,
    run_folder,
)
from moca.engine.cli import parse_cfg_options, read_config
from moca.engine.config_files import configs_folder
from moca.errors import UserError
from moca.results.jobs import Job, check_folders
from moca.results.options import check_owners, options_of
from moca.transfer.overrides import set_arch
from moca.transfer.run_record import options_of as told_options

CONFIGS = configs_folder()

# Configs of these are in a folder of each data set, and tasks are called after it:
# ``cityscapes/linear``.
_BY_DATA_SET = ('segmentation', 'detection')
# Tasks of these are called after the folder: ``imagenet/knn``, ``dense/davis_dino``.
_BY_KIND = ('imagenet', 'dense', 'depth')


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
        checkpoints: files, or `RANDOM`.
        tasks: names such as ``cityscapes/linear``, or paths of configs.
        seeds: each protocol is repeated with every one.
        subsets: numbers of training images; none for all of them.
        archs: timm names, or `AUTO`, one for all checkpoints or one for each; none for the configs'
            own.
        branches: of files that have both, likewise; none for their families' default.
        data_roots: folder by a part of a task's name: ``cityscapes`` of ``cityscapes/linear``,
            ``imagenet`` of ``imagenet/knn``, ``davis`` of ``dense/davis_dino``; of several parts
            of one name, the last counts.
        options: further arguments of `tools/train.py`, such as ``--amp``.
        cfg_options: ``KEY=VALUE`` for all of them, ``CHECKPOINT:KEY=VALUE`` for one, by its path or
            its name in the table.
        notes: what is to stand beneath the table, by checkpoint.
        changes: how files are read; see :func:`moca.checkpoints.changes.changed`.
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
    changes: Mapping[str, Any] = field(default_factory=dict)
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
    specs = [
        _auto_arch(checkpoint, branch, plan.changes) if arch == AUTO else arch
        for checkpoint, arch, branch in pairs
    ]
    configs = {
        (task, str(spec)): task_config(task, spec, plan.configs)
        for task in plan.tasks
        for spec in {str(spec): spec for spec in specs}.values()
    }
    names = [part for task in plan.tasks for part in task_parts(task)]
    stray = set(plan.data_roots) - set(names)
    if stray:
        raise UserError(
            f'--data-root {", ".join(sorted(stray))}: no task is of that. Give NAME=DIR with NAME '
            f'one of {", ".join(dict.fromkeys(names))}.'
        )
    for name, root in plan.data_roots.items():
        if not Path(root).is_dir():
            raise UserError(f'--data-root {name}={root}: no such folder.')
    jobs = []
    for task, subset, seed, (pair, spec) in itertools.product(
        plan.tasks, plan.subsets, plan.seeds, list(zip(pairs, specs, strict=True))
    ):
        jobs.append(_job(task, configs[task, str(spec)], *pair, seed, subset, plan))
    check_folders(jobs)
    return jobs


def _auto_arch(checkpoint: str, branch: str | None, changes: Mapping[str, Any]) -> ArchSpec:
    if checkpoint == RANDOM:
        raise UserError(
            f'--arch {AUTO}: {RANDOM} has no file to take it of. Give a name for each of '
            '--checkpoint, in their order.'
        )
    return arch_of_file(checkpoint, branch, **changes)


def task_parts(task: str) -> list[str]:
    """What ``--data-root`` may call the data of a task by: the parts of its name, in order, and it.

    Of a config that is given by its path, that is the name of its file.

    Example:
        >>> task_parts('dense/in-context_voc')
        ['dense', 'in-context', 'voc', 'dense/in-context_voc']
        >>> task_parts('mine/defects_v2.py')
        ['defects', 'v2', 'defects_v2', 'mine/defects_v2.py']
    """
    name = Path(task).stem if task.endswith('.py') else task
    return list(dict.fromkeys([*(part for part in re.split(r'[/_]', name) if part), name, task]))


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


def task_config(task: str, arch: ArchSpec | None, root: Path) -> Config:
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
    info = None
    if checkpoint == RANDOM:
        measured: dict[str, Any] = {'name': random_label(spec), 'branch': None}
    else:
        size = cfg.model.backbone.get('img_size')
        info = check_checkpoint(checkpoint, spec, branch, img_size=size, **plan.changes)
        measured = {'name': checkpoint_label(checkpoint), 'branch': info.branch}
        arguments += ['--checkpoint', checkpoint]
        if branch:
            arguments += ['--branch', branch]
        arguments += change_arguments(plan.changes)
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
    delta_of = None if info is None else plan.changes.get('delta_of')
    return Job(title, folder, tuple(arguments), checkpoint, options, protocol, info, delta_of)
