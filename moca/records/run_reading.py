"""Read what finished runs left behind (`run.json`), and name the runs that left nothing usable."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moca.errors import UserError
from moca.records.run_json import RECORD, TEST_FOLDER, changes_of_protocol

# mmengine logs every run into a subfolder named by the time of its start.
_LOG_FOLDER = re.compile(r'\d{8}_\d{6}')

# mmengine writes the run's config beside it; a downstream config names its protocol there.
_PROTOCOL_LINE = re.compile(r'^protocol = dict\(', re.MULTILINE)


@dataclass(frozen=True)
class Run:
    """One finished run of a downstream protocol.

    Attributes:
        folder: where its `run.json` lies.
        protocol, title, published: the protocol's name, its title in tables, and the task in
            `published_results.json` that it can be laid beside.
        checkpoint, branch, arch: what was measured.
        path: the checkpoint's file, None for random weights.
        metrics: values in percent; None where the metric is not defined on the data.
        shown: the metrics that the protocol reports, in order.
        finished_at: ISO time, which sorts as text.
        splits: of a metric that is a mean over splits, the value of each.
        note: how its settings were chosen, if that is to be shown.
        counted: what `val_images` are.
        changes: the options by which it measured something else than its protocol.
    """

    folder: Path
    protocol: str
    title: str
    published: str | None
    checkpoint: str
    branch: str | None
    arch: str
    path: str | None
    seed: int
    train_images: int
    val_images: int
    iterations: int
    seconds: float
    metrics: dict[str, float | None]
    shown: tuple[str, ...]
    finished_at: str
    note: str | None = None
    counted: str = 'images'
    changes: str = ''
    splits: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Omission:
    """A run that is not in the table, and why."""

    folder: Path
    reason: str


def read_runs(roots: list[Path]) -> tuple[list[Run], list[Omission]]:
    """Read every run below `roots`.

    Returns:
        The finished runs, oldest first, and the runs that cannot be counted with the reason.

    Raises:
        UserError: if a root does not exist, or there is no run below any of them.
    """
    runs: dict[Path, Run] = {}
    omissions: dict[Path, Omission] = {}
    for root in roots:
        if not root.is_dir():
            raise UserError(f'{root}: no such folder. Name the folder that runs were written to.')
        for folder in _run_folders(root):
            try:
                runs[folder.resolve()] = _read(folder)
            except ValueError as error:
                omissions[folder.resolve()] = Omission(folder, str(error))
    if not runs and not omissions:
        names = ', '.join(map(str, roots))
        raise UserError(
            f'{names}: no run of a protocol in there. tools/train.py CONFIG --work-dir DIR makes '
            f'one, and writes {RECORD} into DIR when it ends.'
        )
    return sorted(runs.values(), key=lambda run: run.finished_at), list(omissions.values())


def _run_folders(root: Path) -> Iterator[Path]:
    """Folders with a record, or with the traces of a downstream run that wrote none."""
    for name, folders, files in os.walk(root):
        folder = Path(name)
        logged = any(_LOG_FOLDER.fullmatch(f) for f in folders)
        folders[:] = sorted(f for f in folders if not _LOG_FOLDER.fullmatch(f))
        if RECORD in files or (logged and _is_downstream(folder, files)):
            folders[:] = [f for f in folders if f != TEST_FOLDER]
            yield folder


def _is_downstream(folder: Path, files: list[str]) -> bool:
    """Pre-training runs have no protocol, and write no record."""
    for name in files:
        if name.endswith('.py') and _PROTOCOL_LINE.search(
            (folder / name).read_text(errors='replace')
        ):
            return True
    return False


def _read(folder: Path) -> Run:
    """Read one record; ValueError, whose text is the reason, if it cannot be counted."""
    try:
        content = json.loads((folder / RECORD).read_text())
    except FileNotFoundError:
        raise ValueError(f'not finished: it has written no {RECORD}') from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f'{RECORD} cannot be read: {error}') from None
    if not isinstance(content, dict):
        raise ValueError(f'{RECORD} holds no JSON object')
    status = content.get('status')
    if status != 'finished':
        raise ValueError(f'not finished: its status is {status!r}')
    try:
        return _run(folder, content)
    except KeyError as error:
        raise ValueError(f'{RECORD} lacks the field {error}') from None
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f'{RECORD} has a field of the wrong kind: {error}') from None


def _run(folder: Path, content: dict[str, Any]) -> Run:
    metrics = {
        str(name): None if value is None else float(value)
        for name, value in content['metrics'].items()
    }
    shown = content.get('main_metrics') or _usual_metrics(content['task'])
    missing = [name for name in shown if name not in metrics]
    if missing:
        raise ValueError(f'no metric {", ".join(missing)} among {", ".join(metrics) or "none"}')
    return Run(
        folder=folder,
        protocol=str(content['protocol']),
        title=str(content.get('title') or content['protocol']),
        published=content.get('published'),
        checkpoint=str(content['checkpoint']['name']),
        branch=content['checkpoint'].get('branch'),
        arch=str(content['arch']),
        path=content['checkpoint'].get('path'),
        seed=int(content['seed']),
        train_images=int(content['train_images']),
        val_images=int(content['val_images']),
        iterations=int(content['iterations']),
        seconds=float(content['seconds']),
        metrics=metrics,
        shown=tuple(map(str, shown)),
        finished_at=str(content['finished_at']),
        note=content.get('note'),
        counted=str(content.get('counted', 'images')),
        changes=_changes(content),
        splits=_splits(content.get('settings') or {}),
    )


def _changes(content: dict[str, Any]) -> str:
    """Of a record that does not name them, what its options tell."""
    if 'changes' in content:
        return str(content['changes'])
    options = (content.get('options') or {}).get('cfg_options') or {}
    return changes_of_protocol(options, {})


def _splits(settings: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
    """What low-shot classification says of its splits, by metric."""
    found = settings.get('top1_of_splits') or {}
    return {
        'top1' if len(found) == 1 else f'top1_{name}': tuple(map(float, values))
        for name, values in found.items()
    }


def _usual_metrics(task: str) -> tuple[str, ...]:
    return ('bbox_mAP', 'segm_mAP') if task == 'detection' else ('mIoU',)
