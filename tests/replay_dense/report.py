"""What a replay measured, and how far it may be off."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from rich.table import Table
from torch import Tensor

EXACT = 0.0
"""Limit of what must not differ in a single element."""


@dataclass
class Report:
    """Largest error of every measure of one recording.

    Attributes:
        name: Of the recording.
        rows: Measure -> (limit, largest error, where that was).
    """

    name: str
    rows: dict[str, tuple[float, float, str]] = field(default_factory=dict)

    def add(self, measure: str, limit: float, error: float, where: str = '') -> None:
        """Keep an error if it is the largest of its measure so far; NaN counts as largest."""
        known = self.rows.get(measure, (limit, -1.0, ''))[1]
        if not error <= known and not math.isnan(known):
            self.rows[measure] = (limit, float(error), where)

    def same(self, measure: str, ours: Tensor, theirs: Tensor, where: str = '') -> None:
        """How many elements differ; none may."""
        if ours.shape != theirs.shape:
            shapes = f'{where}: shape {list(ours.shape)} for {list(theirs.shape)}'
            self.add(measure, EXACT, math.inf, shapes)
        else:
            differ = ours.detach().cpu().double() != theirs.cpu().double()
            self.add(measure, EXACT, float(differ.sum()), where)

    def close(
        self, measure: str, limit: float, ours: Tensor, theirs: Tensor, where: str = ''
    ) -> None:
        """``max|ours - theirs| / max|theirs|``."""
        if ours.shape != theirs.shape:
            shapes = f'{where}: shape {list(ours.shape)} for {list(theirs.shape)}'
            self.add(measure, limit, math.inf, shapes)
        elif theirs.numel():
            ours, theirs = ours.detach().cpu().double(), theirs.detach().cpu().double()
            scale = float(theirs.abs().max()) or 1.0
            self.add(measure, limit, float((ours - theirs).abs().max()) / scale, where)

    def number(
        self, measure: str, limit: float, ours: float, theirs: float, where: str = ''
    ) -> None:
        """Absolute difference of two numbers; two NaN are equal."""
        both_nan = math.isnan(ours) and math.isnan(theirs)
        self.add(measure, limit, 0.0 if both_nan else abs(ours - theirs), where)

    @property
    def passed(self) -> bool:
        """Whether something was measured and all of it is within its limit."""
        return bool(self.rows) and all(error <= limit for limit, error, _ in self.rows.values())


def table_of(reports: list[Report]) -> Table:
    """One row a measure."""
    table = Table('recording', 'measure', 'limit', 'reached', 'verdict')
    for report in reports:
        for measure, (limit, error, where) in report.rows.items():
            fine = error <= limit
            verdict = 'ok' if fine else f'FAILED ({where})' if where else 'FAILED'
            said = 'exact' if limit == EXACT else f'{limit:.0e}'
            reached = 'exact' if error == 0 else f'{error:.1e}'
            if limit == EXACT and error:
                reached = f'{error:g} differ'
            table.add_row(report.name, measure, said, reached, verdict)
    return table


def quiet() -> None:
    """One thread, so that sums are made in the order of the recordings."""
    torch.set_num_threads(1)
