"""What a report shows of runs and of the checkpoints that they measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moca.records.config_values import config_leaves
from moca.records.metrics import metric_heading, value_text
from moca.records.run_reading import Run
from moca.results import tables
from moca.results.leaderboard import Leaderboard, Row
from moca.results.report import charts, confusion
from moca.results.report.commands import command_of
from moca.results.report.pictures import Gallery, Picture
from moca.results.report.results import row_title
from moca.results.report.run_files import RunFiles, read_run_files


@dataclass(frozen=True)
class Options:
    """What a report shows beside tables and what folders hold.

    Attributes:
        count: Validation images that are predicted and drawn of each run; 0 for none.
        whole: Predict whole validation sets again, for confusions and the errors of detectors.
        limit: Bytes of all pictures together.
    """

    count: int = 0
    whole: bool = False
    limit: int = 25_000_000


@dataclass
class RunPart:
    """What is shown of one run, finished or not.

    Attributes:
        number: Of its anchor in the page, ``run-NUMBER``.
        title, folder, summary: What it is, where it lies, and its main metrics.
        facts: Names and values of its record.
        metrics: All that it measured.
        command: What measures it again; empty where its record says nothing.
        files: What its folder holds.
        panels: Curves.
        classes: Figures of each class.
        pictures: What it predicts.
        confused, matrix: Which classes it confuses; empty where that was not counted.
        confusion_reason: Why that could not be counted.
    """

    number: int
    title: str
    folder: str
    summary: str
    facts: list[tuple[str, str]]
    metrics: list[tuple[str, str]]
    command: str
    files: RunFiles
    panels: list[charts.Panel]
    classes: list[charts.Bar]
    pictures: list[Picture] = field(default_factory=list)
    confused: list[confusion.Confused] = field(default_factory=list)
    matrix: tuple[list[str], list[confusion.Square]] = field(default_factory=lambda: ([], []))
    confusion_reason: str = ''


@dataclass
class CheckpointPart:
    """A row of ours: its features, its runs, and how it was pre-trained, if that is there."""

    title: str
    arch: str
    path: str
    runs: list[RunPart]
    features: Picture | None = None
    pretraining: RunFiles | None = None
    panels: list[charts.Panel] = field(default_factory=list)


def checkpoint_parts(
    board: Leaderboard,
    runs: Sequence[Run],
    numbers: Mapping[Path, int],
    options: Options,
    gallery: Gallery,
) -> list[CheckpointPart]:
    """Our rows in their order; every run is in one, also where a newer one counts."""
    found = []
    left = set(numbers)
    for row in (row for row in board.rows if row.source is None):
        some = {
            run.folder
            for (other, _), behind in board.runs.items()
            if other == row
            for run in behind
        }
        first = next((run for run in runs if run.folder in some), None)
        some |= {run.folder for run in runs if first and _same_checkpoint(run, first)}
        some &= left
        left -= some
        own = [run for run in runs if run.folder in some]
        if own:
            found.append(_checkpoint_part(row, own, numbers, options, gallery))
    return found


def _same_checkpoint(run: Run, other: Run) -> bool:
    return (run.checkpoint, run.branch, run.arch, run.path) == (
        *(other.checkpoint, other.branch, other.arch, other.path),
    )


def _checkpoint_part(
    row: Row, runs: list[Run], numbers: Mapping[Path, int], options: Options, gallery: Gallery
) -> CheckpointPart:
    parts = []
    runs = sorted(runs, key=lambda run: (run.protocol, run.seed, run.train_images))
    for run in runs:
        title = f'{run.title}, seed {run.seed}' + (f', {run.changes}' if run.changes else '')
        summary = ', '.join(
            f'{metric_heading(name)} {_value(name, run.metrics[name])}' for name in run.shown
        )
        part = run_part(run.folder, numbers[run.folder], title, run.shown, summary)
        _draw(part, run, options, gallery)
        parts.append(part)
    whole = CheckpointPart(row_title(row), row.arch, runs[0].path or '', parts)
    if options.count:
        from moca.results.report.drawings import feature_picture

        whole.features = feature_picture(runs, options.count, gallery)
    if runs[0].path:
        before = read_run_files(Path(runs[0].path).parent)
        if before.curves:
            whole.pretraining, whole.panels = before, charts.panels(before.curves)
    return whole


def _draw(part: RunPart, run: Run, options: Options, gallery: Gallery) -> None:
    """Predict again what the options ask for, and draw it."""
    task = str(part.files.record.get('task'))
    if options.count or options.whole:
        from moca.results.report import drawings
    if options.count:
        part.pictures += drawings.prediction_pictures(run, task, options.count, gallery)
    if options.whole:
        part.pictures += drawings.error_pictures(run, task, gallery)
        counts = drawings.confusion_of(run, task)
        if isinstance(counts, str):
            part.confusion_reason = counts
            gallery.missing.append((f'{run.folder}, confusion', counts.splitlines()[0]))
        elif counts is not None:
            part.confused = confusion.largest(counts)
            part.matrix = confusion.matrix(counts)
            part.classes = part.classes or _class_bars(
                {name: {'IoU': value} for name, value in counts.ious.items()}
            )


def run_part(
    folder: Path, number: int, title: str, shown: Sequence[str], summary: str = ''
) -> RunPart:
    """Gather what a folder holds of a run, also of one that is not finished.

    Args:
        folder: Of the run.
        number, title, summary: See :class:`RunPart`.
        shown: Its main metrics, whose curves come first.
    """
    files = read_run_files(folder)
    record = files.record
    config = str(record.get('config') or 'CONFIG')
    metrics = record.get('metrics')
    measured = metrics if isinstance(metrics, dict) else {}
    return RunPart(
        *(number, title, str(folder), summary, _facts(record)),
        [(metric_heading(str(name)), _value(str(name), value)) for name, value in measured.items()],
        command_of(record, str(folder / config), files.config) if record else '',
        files,
        charts.panels(files.curves, [*shown, *measured]),
        _class_bars(files.classes),
    )


def _value(name: str, value: Any) -> str:
    return value_text(name, float(value)) if isinstance(value, int | float) else tables.DASH


# Fields that stand elsewhere in the part of a run.
_ELSEWHERE = ('metrics', 'environment')


def _facts(record: dict[str, Any]) -> list[tuple[str, str]]:
    """All fields of a record, nested ones by dotted names, those without a value left out."""
    told = {key: value for key, value in record.items() if key not in _ELSEWHERE}
    return [
        (name, ' '.join(map(str, value)) if isinstance(value, list) else str(value))
        for name, value in config_leaves(told)
        if value not in (None, '', {}, [])
    ]


def _class_bars(classes: dict[str, dict[str, float]]) -> list[charts.Bar]:
    """IoU of each class, best first; a class without a value comes last."""
    rows = []
    for name, figures in classes.items():
        first, *others = figures.items()
        about = ', '.join(f'{key} {value:.1f}' for key, value in others if value == value)
        rows.append((name, first[1], about))
    rows.sort(key=lambda row: -row[1] if row[1] == row[1] else 1.0)
    texts = [tables.DASH if value != value else f'{value:.1f}' for _, value, _ in rows]
    return charts.bars(
        (
            (name, about, text, 0.0 if value != value else value, None, 'ours')
            for (name, value, about), text in zip(rows, texts, strict=True)
        ),
        longest=100.0,
    )
