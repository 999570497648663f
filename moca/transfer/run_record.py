"""``run.json``: what a run measures and, once it has finished, its results."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from moca.engine.environment import environment
from moca.errors import UserError
from moca.records.metrics import best_value, in_percent
from moca.records.run_json import RECORD, read_record
from moca.records.whole_files import write_atomically

KINDS = ('bbox', 'segm')
"""What is measured of detectors: boxes and masks."""

# Records have these since they are held against them; what an older one measured is not known.
_CONTENT = 'checkpoint.sha256'
_LATER = (_CONTENT, 'checkpoint.mean', 'checkpoint.std')


class RunRecordHook(Hook):
    """Keeps the last validation's metrics and the time spent, and writes ``run.json``.

    The time is that of the whole run, interruptions left out: it travels in the checkpoints. Of
    the metrics in ``protocol.best`` the best of all validations is kept as ``METRIC_best``;
    where ``protocol.reported`` is ``best``, as ``METRIC`` too, and the last as ``METRIC_last``.

    Args:
        record: the fields that are known before the run (protocol, task, checkpoint, arch, config).
    """

    # After every other hook, so that the time includes theirs.
    priority = 'LOWEST'

    def __init__(self, record: dict[str, Any]) -> None:
        self.record = dict(record)
        # None before the first validation; empty after one in which nothing was detected
        self.metrics: dict[str, Any] | None = None
        self.best: dict[str, float] = {}
        self._seconds_before = 0.0
        self._start: float | None = None

    def before_run(self, runner: Runner) -> None:
        """Start the clock, once: mmengine calls this before training and before validation."""
        if self._start is None:
            self._start = time.monotonic()

    def before_train(self, runner: Runner) -> None:
        """Say what is being measured here, so that a resumed run can be held against it.

        A result that is there already stays, as ``run_TIME.json`` beside the new one.
        """
        keep_result(runner.work_dir)
        if runner._resume:
            self.best = dict(read_record(Path(runner.work_dir) / RECORD).get('best') or {})
        self._note(runner)

    def _note(self, runner: Runner) -> None:
        """Write what is known while the run goes on."""
        best = {'best': self.best} if self.best else {}
        begun = {'status': 'running', **self.record, 'seed': runner.seed}
        write_record(runner.work_dir, {**begun, **best})

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Note the time spent so far in the checkpoint."""
        checkpoint['moca_seconds'] = self.seconds
        checkpoint['moca_best'] = dict(self.best)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Go on with the clock of the run that is resumed."""
        if runner._resume:
            self._seconds_before = checkpoint.get('moca_seconds', 0.0)
            for name, value in checkpoint.get('moca_best', {}).items():
                self.best[name] = best_value(name, (value, self.best.get(name, value)))

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Keep the newest metrics."""
        self.metrics = dict(metrics or {})
        for name in (runner.cfg.get('protocol') or {}).get('best', ()):
            value = float(self.metrics.get(name, math.nan))
            if not math.isnan(value):
                self.best[name] = best_value(name, (value, self.best.get(name, value)))
            self.metrics[f'{name}_best'] = self.best.get(name, math.nan)
        self._report_best(runner)
        if self.best and runner.iter < runner.max_iters:
            self._note(runner)

    def _report_best(self, runner: Runner) -> None:
        """Where a protocol's convention is the best validation, let the bare name mean it."""
        protocol = runner.cfg.get('protocol') or {}
        if protocol.get('reported') != 'best' or self.metrics is None:
            return
        for name in protocol.get('best', ()):
            self.metrics[f'{name}_last'] = self.metrics.get(name, math.nan)
            self.metrics[name] = self.metrics[f'{name}_best']

    @property
    def seconds(self) -> float:
        """Wall time of training and validation, in seconds."""
        now = time.monotonic()
        return self._seconds_before + now - (now if self._start is None else self._start)

    def write(self, runner: Runner) -> Path:
        """Write ``run.json`` into the work dir and return its path; on the main process only."""
        record = {
            'status': 'finished',
            **self.record,
            'seed': runner.seed,
            'train_images': len(runner.train_dataloader.dataset),
            'val_images': _scored(runner.val_dataloader.dataset),
            'iterations': runner.iter,
            'seconds': round(self.seconds, 1),
            'metrics': percent_metrics(
                self.metrics or {}, self.record['task'], kinds_of(runner.cfg.val_evaluator)
            ),
            **({'best': self.best} if self.best else {}),
            **_chosen(runner),
            'environment': environment(),
            'finished_at': datetime.now(UTC).isoformat(timespec='seconds'),
        }
        return write_record(runner.work_dir, record)


def _scored(dataset: Any) -> int:
    """How many images are validated on, those held out of training not counted."""
    return int(getattr(dataset, 'scored', len(dataset)))


def _chosen(runner: Runner) -> dict[str, Any]:
    """What the evaluator's metrics have chosen, and on which images."""
    found: dict[str, Any] = {}
    for metric in getattr(runner.val_loop.evaluator, 'metrics', ()):
        found |= getattr(metric, 'chosen', {})
    return {'chosen': found} if found else {}


def keep_result(work_dir: str | Path) -> None:
    """Keep a finished run's record as ``run_TIME.json`` beside the one that is to come."""
    path = Path(work_dir) / RECORD
    earlier = read_record(path)
    if earlier.get('status') == 'finished' and is_main_process():
        ended = str(earlier.get('finished_at', 'earlier')).replace(':', '-')
        kept = path.with_name(f'run_{ended}.json')
        write_atomically(kept, path.read_bytes())
        print_log(f'{path} had a result, which is now {kept.name}.', 'current')


def write_record(work_dir: str | Path, record: dict[str, Any]) -> Path:
    """Write ``run.json`` into a work dir and return its path; on the main process only."""
    path = Path(work_dir) / RECORD
    if is_main_process():
        write_atomically(path, (json.dumps(record, indent=2) + '\n').encode())
    return path


@contextmanager
def told_if_failed(work_dir: str | Path) -> Iterator[None]:
    """Have ``run.json`` say so where a run ends in an error, or is interrupted.

    Its ``status``, which was ``running``, becomes ``failed``, and ``error`` says of what; one that
    was killed still says that it is running.
    """
    try:
        yield
    except BaseException as error:
        record = read_record(Path(work_dir) / RECORD)
        if record.get('status') == 'running':
            name, said = type(error).__name__, ' '.join(str(error).split())
            text = said if said.startswith(name) else f'{name}: {said}'
            write_record(work_dir, {**record, 'status': 'failed', 'error': text})
        raise


def check_earlier_run(cfg: Config, record: dict[str, Any]) -> None:
    """Hold a run against the ``run.json`` that an earlier one left where it is to work.

    A run that is resumed has to measure what it was started for, else its row in the leaderboard
    would be wrong; and a new run must not replace the results of another.

    Args:
        cfg: of the run that is to start, with ``work_dir``, ``resume`` and ``load_from``.
        record: its fields of ``run.json``.

    Raises:
        UserError: naming the field that differs, both values and the remedy.
    """
    resume = bool(cfg.get('resume'))
    folders = [Path(cfg.work_dir)]
    if resume and cfg.get('load_from'):
        folders.append(Path(cfg.load_from).parent)
    for path in (folder / RECORD for folder in folders):
        earlier = read_record(path)
        if not resume and earlier.get('status') != 'finished':
            continue
        for (field, option), ours in _identity(record).items():
            theirs = _identity(earlier)[field, option]
            if not earlier or ours == theirs or (field in _LATER and theirs is None):
                continue
            if field == _CONTENT:
                raise UserError(
                    f'{path} is of another file of the name {record["checkpoint"]["path"]}, which '
                    'has been written anew since. Bring that file back, or choose another '
                    '--work-dir.'
                )
            if resume:
                raise UserError(
                    f'{path}: the run to resume has {field} {theirs!r}, and this one {ours!r}. '
                    f'Give the {option} that it was started with, or start a new run with '
                    '--work-dir.'
                )
            raise UserError(
                f"{path}: another run's results, with {field} {theirs!r} instead of {ours!r}. "
                'Choose another --work-dir.'
            )


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file's content: a retrained checkpoint has the path of the one before it."""
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def options_of(data_root: str | None, cfg_options: Mapping[str, Any]) -> dict[str, Any]:
    """What a run was told beside what it measures, as ``run.json`` keeps it."""
    root = None if data_root is None else str(Path(data_root).resolve())
    settings = {key: list(v) if isinstance(v, tuple) else v for key, v in cfg_options.items()}
    return {'data_root': root, 'cfg_options': settings}


def _identity(record: dict[str, Any]) -> dict[tuple[str, str], Any]:
    """What a record is about: (field, option of the command line) to value."""
    checkpoint = record.get('checkpoint') or {}
    path = checkpoint.get('path')
    return {
        ('ema', '--ema'): record.get('ema'),
        ('protocol', 'CONFIG'): record.get('protocol'),
        ('checkpoint.path', '--checkpoint'): path and str(Path(path).resolve()),
        (_CONTENT, '--checkpoint'): checkpoint.get('sha256'),
        ('checkpoint.branch', '--branch'): checkpoint.get('branch'),
        ('checkpoint.prefix', '--prefix'): checkpoint.get('prefix'),
        ('checkpoint.patch', '--patch'): checkpoint.get('patch'),
        ('checkpoint.delta_of', '--delta-of'): checkpoint.get('delta_of'),
        ('checkpoint.mean', '--mean'): checkpoint.get('mean'),
        ('checkpoint.std', '--std'): checkpoint.get('std'),
        ('checkpoint.name', '--name'): checkpoint.get('name'),
        ('arch', '--arch'): record.get('arch'),
        ('subset', '--subset and --seed'): record.get('subset'),
        ('held_out', '--held-out'): record.get('held_out'),
    }


def kinds_of(evaluator: Any) -> tuple[str, ...]:
    """What an evaluator's config (or several) measures: of ``bbox`` and ``segm``.

    One with ``format_only`` writes predictions and measures nothing; panoptic quality is another
    kind, and always there.
    """
    several = evaluator if isinstance(evaluator, Sequence) else [evaluator]
    asked: list[str] = []
    for each in several:
        each = each or {}
        if each.get('format_only') or str(each.get('type')).endswith('PanopticQuality'):
            continue
        metric = each.get('metric', 'bbox')  # CocoMetric's default
        asked += [metric] if isinstance(metric, str) else metric
    return tuple(kind for kind in KINDS if kind in asked)


def percent_metrics(
    metrics: Mapping[str, Any], task: str, kinds: Sequence[str] = KINDS
) -> dict[str, float | None]:
    """Return metrics in percent under their bare names.

    mmseg gives percent of label maps; of depth it gives errors, in meters or without a unit, which
    stay as they are, and shares of pixels (``d1`` to ``d3``). `CocoMetric` gives fractions under
    ``coco/``, -1 where no object is of the size in question and NaN where none is of a class (None
    here), and *nothing at all* if the model detects nothing: AP of the `kinds` that were asked for
    is 0 then.
    """
    if task == 'detection':
        found = {
            name.removeprefix('coco/'): value
            for name, value in metrics.items()
            if name.startswith('coco/')
        }
        values: dict[str, float | None] = {f'{kind}_mAP': 0.0 for kind in kinds}
        for name, value in found.items():
            values[name] = round(100 * float(value), 2) if value >= 0 else None
        return values
    if task == 'depth':
        return {
            name: round(100 * float(value), 2) if in_percent(name) else round(float(value), 4)
            for name, value in metrics.items()
        }
    return {
        name: None if math.isnan(float(value)) else round(float(value), 2)
        for name, value in metrics.items()
        if isinstance(value, int | float) or hasattr(value, 'item')
    }
