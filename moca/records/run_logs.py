"""The pieces of a run that was resumed, joined.

mmengine gives every start of a run a folder of its own, named by the time: what a later piece says
of a step replaces what an earlier one said, since the steps after a checkpoint are taken again.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moca.errors import UserError

SCALARS = 'scalars.json'

_PIECE = 'piece.txt'

_FRESH = re.compile(r'^resume = False$', re.MULTILINE)

# Steps and values of one curve, both ``[N]``.
Curve = tuple[NDArray[np.int64], NDArray[np.float64]]


def pieces_of(work_dir: Path) -> list[Path]:
    """``vis_data`` folders of a run in order of time, from its last start that was no resume.

    Folders are named by the clock, which may have gone back between two starts: the number that
    `number_piece` has given them comes first.
    """
    pieces = sorted(work_dir.glob('*/vis_data'), key=lambda piece: (_number(piece), str(piece)))
    fresh = [number for number, piece in enumerate(pieces) if _is_fresh(piece)]
    return pieces[fresh[-1] :] if fresh else pieces


def number_piece(log_dir: Path) -> None:
    """Number the folder of a start that begins, after all those that are there.

    Args:
        log_dir: mmengine's, ``WORK_DIR/TIME``; one without ``vis_data`` has no logs to be ordered.
    """
    own = log_dir / 'vis_data'
    if own.is_dir():
        others = [piece for piece in log_dir.parent.glob('*/vis_data') if piece != own]
        last = max((_number(piece) for piece in others), default=0)
        (own / _PIECE).write_text(f'{max(last, len(others)) + 1}\n')


def _number(piece: Path) -> int:
    """The number of a piece, 0 of one of before there were numbers."""
    try:
        return int((piece / _PIECE).read_text())
    except (OSError, ValueError):
        return 0


def _is_fresh(piece: Path) -> bool:
    config = piece / 'config.py'
    return config.is_file() and bool(_FRESH.search(config.read_text(errors='replace')))


def read_curves(work_dir: Path) -> dict[str, Curve]:
    """Everything that a run has logged, by name.

    Raises:
        UserError: The folder holds no log, or a line of it is no JSON (but for the last one, which
            a kill may have cut).
    """
    table: dict[str, dict[int, float]] = {}
    for piece in pieces_of(work_dir):
        rows = _read_rows(piece / SCALARS)
        first = min((int(row['step']) for row in rows), default=None)
        for name, values in table.items():
            if first is not None:
                table[name] = {step: value for step, value in values.items() if step <= first}
        for row in rows:
            for name, value in row.items():
                if name != 'step' and isinstance(value, int | float):
                    table.setdefault(name, {})[int(row['step'])] = float(value)
    if not table:
        raise UserError(
            f'{work_dir}: no {SCALARS} of a run in */vis_data. Name the work dir of a run that '
            "logs to mmengine's LocalVisBackend, as the configs here do."
        )
    return {name: _curve(values) for name, values in table.items() if values}


def _curve(values: dict[int, float]) -> Curve:
    steps = sorted(values)
    return np.array(steps), np.array([values[step] for step in steps])


def _read_rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    lines = path.read_text(errors='replace').splitlines()
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number < len(lines):
                raise UserError(f'{path}: line {number} is no JSON ({error}).') from error
    return [row for row in rows if 'step' in row]
