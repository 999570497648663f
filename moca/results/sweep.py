"""A setting chosen for each checkpoint on held-out training images, and reported as chosen."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from moca.errors import UserError
from moca.results.plan import Job, Plan, make_jobs

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


def candidates(plan: Plan, sweep: Sweep) -> dict[tuple[str, str], list[Job]]:
    """The runs that choose: of each task and checkpoint one for each value, with the first seed.

    Returns:
        Jobs in the order of the values, by task and checkpoint.
    """
    found: dict[tuple[str, str], list[Job]] = {}
    for task in plan.tasks:
        for value in sweep.values:
            trial = dataclasses.replace(
                plan,
                tasks=[task],
                seeds=plan.seeds[:1],
                options=[*plan.options, '--held-out', f'{SHARE:g}'],
                cfg_options=[*plan.cfg_options, f'{sweep.key}={value}'],
                suffix=f'_{sweep.key.rpartition(".")[2]}={value}',
                protocol_suffix='_held_out',
            )
            for job in make_jobs(trial):
                found.setdefault((task, job.checkpoint), []).append(job)
    return found


def decided(plan: Plan, sweep: Sweep, trials: dict[tuple[str, str], list[Job]]) -> list[Plan]:
    """The plans of the final runs, one for each task: each checkpoint with its best value.

    Raises:
        UserError: a candidate has no result.
    """
    plans = []
    for task in plan.tasks:
        own, notes = [], {}
        for checkpoint in plan.checkpoints:
            scores = [_score(job) for job in trials[task, checkpoint]]
            best = sweep.values[scores.index(max(scores))]
            own.append(f'{checkpoint}:{sweep.key}={best}')
            notes[checkpoint] = (
                f'{sweep.key}={best} was chosen of {", ".join(sweep.values)} on {SHARE:.0%} of the '
                f'training images ({", ".join(f"{score:.2f}" for score in scores)})'
            )
        plans.append(
            dataclasses.replace(
                plan, tasks=[task], cfg_options=[*plan.cfg_options, *own], notes=notes
            )
        )
    return plans


def _score(job: Job) -> float:
    record = job.record
    metrics: Sequence[str] = record.get('main_metrics') or ('mIoU',)
    value = (record.get('metrics') or {}).get(metrics[0])
    if record.get('status') != 'finished' or value is None:
        raise UserError(
            f'{job.folder}: no result to choose by. Run the same command again, which resumes what '
            'failed, or leave --sweep out.'
        )
    return float(value)
