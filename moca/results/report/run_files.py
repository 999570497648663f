"""What a run's folder tells beside its numbers: config, environment, curves, classes, last lines.

Nothing here is needed for a row in the leaderboard, so that nothing here refuses a run: what is
missing or cannot be read is empty.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moca.errors import UserError
from moca.records.log_lines import tail
from moca.records.run_json import RECORD, read_record
from moca.records.run_logs import Curve, read_curves

_STAMP = re.compile(r'\d{8}_\d{6}')  # mmengine's name of a log and its folder

_HEAD, _TAIL = 200_000, 400_000
"""Bytes of a log that are read: mmengine begins with the environment and the config, and a table
of 1000 classes at the end of a validation has 60 kB."""

_LAST_LINES = 30

_ENVIRONMENT = re.compile(r'-{20,}\nSystem environment:\n(.*?)-{20,}\n', re.DOTALL)
_TABLE = re.compile(r'^(?:[+|].*\n)+', re.MULTILINE)


@dataclass(frozen=True)
class RunFiles:
    """The contents of a run's folder.

    Attributes:
        folder: Where they lie.
        record: The whole ``run.json``; empty if there is none that can be read.
        config: Text of the config that ran.
        environment: Versions and devices, as mmengine logs them.
        classes: Of each class, the last validation's figures in percent by name, as mmseg logs
            them; NaN for a class that is neither in the labels nor predicted.
        curves: What was logged, by name.
        ending: The last lines of the log.
    """

    folder: Path
    record: dict[str, Any] = field(default_factory=dict)
    config: str = ''
    environment: str = ''
    classes: dict[str, dict[str, float]] = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)
    ending: str = ''


def read_run_files(folder: Path) -> RunFiles:
    """Read whatever a folder holds of a run, also of one that failed or goes on."""
    try:
        record = read_record(folder / RECORD)
    except UserError:
        record = {}
    logs = logs_of(folder)
    try:
        curves = read_curves(folder)
    except (UserError, OSError, ValueError, TypeError):  # none without training, or damaged
        curves = {}
    end = tail(logs[-1], _TAIL) if logs else ''
    return RunFiles(
        folder,
        record,
        _config_text(folder, record.get('config')),
        environment_text(logs, record),
        class_figures(end),
        curves,
        '\n'.join(end.splitlines()[-_LAST_LINES:]),
    )


def logs_of(folder: Path) -> list[Path]:
    """mmengine's logs of a run, one for each start, the newest last."""
    return sorted(path for path in folder.glob('*/*.log') if _STAMP.fullmatch(path.stem))


def _config_text(folder: Path, name: Any) -> str:
    """Of the config that the record names, or of the only one that is there."""
    named = [folder / name] if isinstance(name, str) and Path(name).name == name else []
    for path in [*named, *sorted(folder.glob('*.py'))]:
        try:
            return path.read_text(errors='replace')
        except OSError:
            continue
    return ''


def environment_text(logs: list[Path], record: dict[str, Any]) -> str:
    """What a run's record says of its environment, then what the newest log does that tells."""
    noted = record.get('environment')
    said = ''
    if isinstance(noted, dict):
        said = ''.join(f'{name}: {value}\n' for name, value in noted.items())
    for log in reversed(logs):
        try:
            with log.open('rb') as file:
                found = _ENVIRONMENT.search(file.read(_HEAD).decode(errors='replace'))
        except OSError:
            continue
        if found:
            lines = found[1].replace('Runtime environment:', '').splitlines()
            return said + '\n'.join(line.strip() for line in lines if line.strip()) + '\n'
    return said


def class_figures(log: str) -> dict[str, dict[str, float]]:
    """The last table "per class results" of a log: figures by name, of each class.

    Example:
        >>> class_figures('per class results:\\n\\n| Class | IoU |\\n| a | b | 5.0 |\\n')
        {'a | b': {'IoU': 5.0}}
    """
    _, announced, rest = log.rpartition('per class results:')
    table = _TABLE.search(rest) if announced else None
    rows = [line for line in (table[0] if table else '').splitlines() if line[0] == '|']
    if not rows:
        return {}
    _, *names = (text.strip() for text in rows[0].strip('|').split('|'))
    found: dict[str, dict[str, float]] = {}
    for row in rows[1:]:
        # from the right, as a class may have a bar in its name
        label, *texts = row.strip()[1:-1].rsplit('|', len(names))
        values = [_number(text) for text in texts]
        found[label.strip()] = dict(zip(names, values, strict=False))
    return found


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
