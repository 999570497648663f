"""One run of `tools/train.py` in a queue, and whether its folder holds what it would measure."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moca.checkpoints.info import CheckpointInfo
from moca.checkpoints.run_names import RANDOM
from moca.engine.work_dir import changed_fields
from moca.errors import UserError
from moca.records.run_json import RECORD
from moca.results.queue import Run
from moca.transfer.run_record import file_digest


@dataclass(frozen=True)
class Job(Run):
    """One run of `tools/train.py`.

    Attributes:
        checkpoint: file, or `RANDOM`.
        options: data root and ``--cfg-options``, as `run.json` keeps them.
        protocol: the name of what is measured.
        reads: what is in the checkpoint, None of random weights.
        delta_of: the file that the checkpoint's differences add to, None if it has whole weights.
    """

    checkpoint: str
    options: dict[str, Any] = field(default_factory=dict)
    protocol: str = ''
    reads: CheckpointInfo | None = None
    delta_of: str | None = None

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


def check_folders(jobs: Sequence[Job]) -> None:
    """Verify that no two runs share a folder, and that what a folder holds is of its run.

    Raises:
        UserError: one would pass for another's result.
    """
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
        _check_reading(job)
        name = job.record.get('protocol')
        if job.protocol and name and name != job.protocol:
            raise UserError(
                f'{job.folder} has measured {name}, not {job.protocol}. Move that folder away.'
            )
        told = job.record.get('options')
        if job.finished and told is not None and told != job.options:
            raise UserError(
                f'{job.folder} was measured with other settings, which would now change: '
                f'{", ".join(changed_fields(told, job.options))}. Give the same '
                '--data-root and --cfg-options, or move that folder away.'
            )


def _check_reading(job: Job) -> None:
    """Hold what a run has made of its file against what this one would."""
    recorded, ours = job.record.get('checkpoint') or {}, job.reads
    if ours is None or recorded.get('sha256') is None:
        return
    patch = ours.patch_size if ours.resampled_from else None
    if recorded.get('patch') != patch:
        raise UserError(
            f'{job.folder} has measured patches {_of_file(recorded.get("patch"))}, not '
            f'{_of_file(patch)}. Give the same --patch, or move that folder away.'
        )
    added = None if job.delta_of is None else file_digest(job.delta_of)
    if recorded.get('delta_of') != added:
        raise UserError(
            f'{job.folder} has measured {_sum(recorded.get("delta_of"))}, not {_sum(added)}. Give '
            'the same --delta-of, or move that folder away.'
        )
    said = ours.normalized_by or recorded.get('normalized_by')
    for name, value in (('mean', ours.mean), ('std', ours.std)):
        before = recorded.get(name)
        if said and before is not None and list(before) != list(value):
            raise UserError(
                f'{job.folder} was measured with {name} {before}, not {list(value)}. Give the same '
                f'--{name}, or move that folder away.'
            )


def _of_file(patch: int | None) -> str:
    return 'as in the file' if patch is None else f'resampled to {patch} pixels'


def _sum(added: str | None) -> str:
    return 'the file by itself' if added is None else f'it added to the file of sha256 {added[:12]}'
