"""A setting chosen for each checkpoint on held-out training images, and reported as chosen."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass

from moca.checkpoints.run_names import arch_of_each, branch_of_each
from moca.errors import UserError
from moca.records.metrics import best_value, in_percent
from moca.results.jobs import Job
from moca.results.options import options_of
from moca.results.plan import Plan, make_jobs, names_of
from moca.transfer.held_out import HELD_OUT

SHARE = 0.1
"""Of the training images that validate the candidates [our choice]."""


@dataclass(frozen=True)
class Sweep:
    """Values of one config field.

    Attributes:
        key: the field, with dots.
        values: as ``--cfg-options`` takes them.
    """

    key: str
    values: tuple[str, ...]


def read_sweep(text: str) -> Sweep:
    """Read ``KEY=VALUE,VALUE,...``.

    Raises:
        UserError: there are no two different values.
    """
    key, _, rest = text.partition('=')
    values = tuple(dict.fromkeys(value for value in rest.split(',') if value))
    if not key or len(values) < 2:
        raise UserError(
            f'--sweep {text}: give a field and two values or more, such as '
            'optim_wrapper.optimizer.lr=1e-4,2e-4.'
        )
    return Sweep(key, values)


@dataclass(frozen=True)
class Trial:
    """The runs that choose a value for one task, subset and checkpoint.

    Attributes:
        plan: of that alone.
        jobs: one for each value, in their order, with the first seed.
    """

    plan: Plan
    jobs: tuple[Job, ...]


def trials_of(plan: Plan, sweep: Sweep) -> list[Trial]:
    """Every cell of a plan, with the runs that choose a value for it."""
    archs = arch_of_each(plan.archs, plan.checkpoints)
    branches = branch_of_each(plan.branches, plan.checkpoints)
    everybody = [name for checkpoint in plan.checkpoints for name in names_of(checkpoint)]
    found = []
    for task in plan.tasks:
        for subset in plan.subsets:
            for checkpoint, arch, branch in zip(plan.checkpoints, archs, branches, strict=True):
                cell = dataclasses.replace(
                    plan,
                    tasks=[task],
                    subsets=[subset],
                    checkpoints=[checkpoint],
                    archs=[arch] if arch else [],
                    branches=[branch] if branch else [],
                    cfg_options=options_of(names_of(checkpoint), plan.cfg_options, everybody),
                )
                jobs = [_candidate(cell, sweep, value) for value in sweep.values]
                found.append(Trial(cell, tuple(jobs)))
    return found


def _candidate(cell: Plan, sweep: Sweep, value: str) -> Job:
    shown = re.sub(r'[^\w.+-]+', '-', value)
    (job,) = make_jobs(
        dataclasses.replace(
            cell,
            seeds=cell.seeds[:1],
            options=[*cell.options, '--held-out', f'{SHARE:g}'],
            cfg_options=[*cell.cfg_options, f'{sweep.key}={value}'],
            suffix=f'_{sweep.key.rpartition(".")[2]}={shown}',
            protocol_suffix=HELD_OUT,
        )
    )
    return job


def decided(trials: Sequence[Trial], sweep: Sweep) -> list[Plan]:
    """The plans of the final runs, each with the best value of its trial.

    A candidate without a result, such as one that diverged, counts as the worst.

    Raises:
        UserError: none of a trial's candidates has a result.
    """
    plans = []
    for trial in trials:
        scores = [_score(job) for job in trial.jobs]
        metric = next((_metric(job) for job in trial.jobs if job.finished), '')
        known = [value for value in scores if value is not None]
        (checkpoint,) = trial.plan.checkpoints
        if not known:
            raise UserError(
                f'--sweep: none of the values of {sweep.key} gave a result for {checkpoint}; see '
                f'{trial.jobs[0].folder} and the folders beside it.'
            )
        best = sweep.values[scores.index(best_value(metric, known))]
        digits = 2 if in_percent(metric) else 4
        shown = ', '.join('failed' if s is None else f'{s:.{digits}f}' for s in scores)
        note = (
            f'{sweep.key}={best} was chosen of {", ".join(sweep.values)} on {SHARE:.0%} of the '
            f'training images ({shown})'
        )
        plans.append(
            dataclasses.replace(
                trial.plan,
                cfg_options=[*trial.plan.cfg_options, f'{sweep.key}={best}'],
                notes={checkpoint: note},
            )
        )
    return plans


def _metric(job: Job) -> str:
    """The metric that a run reports first."""
    return str((job.record.get('main_metrics') or ('mIoU',))[0])


def _score(job: Job) -> float | None:
    value = (job.record.get('metrics') or {}).get(_metric(job))
    return float(value) if job.finished and value is not None else None
