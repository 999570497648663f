"""What a calibration has found beside what was expected, and what usually causes a miss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from moca.records.metrics import value_text
from moca.results.calibration import Match
from moca.results.jobs import Job
from moca.results.tested import Tested

# Records keep two digits: a value at the edge of its tolerance is within, and is rounded.
_ROUNDING = 0.005 + 1e-6


@dataclass(frozen=True)
class Finding:
    """What a row gave: its metrics, and what is wrong with them if anything is."""

    match: Match
    found: dict[str, float]
    problem: str | None = None

    @property
    def missed(self) -> bool:
        """Whether a metric lies outside its tolerance."""
        return any(
            not _within(self.found[metric], *wanted)
            for metric, wanted in self.match.fingerprint.expected.items()
            if metric in self.found
        )


def finding_of(match: Match, job: Job | Tested) -> Finding:
    """Read what the run of a row left."""
    if not job.finished:
        return Finding(match, {}, f'it has not finished; see {job.folder}')
    metrics = job.record.get('metrics') or {}
    wanted = match.fingerprint.expected
    found = {name: float(metrics[name]) for name in wanted if metrics.get(name) is not None}
    absent = [name for name in wanted if name not in found]
    return Finding(match, found, f'no {", ".join(absent)} in {job.folder}' if absent else None)


def show_findings(findings: Sequence[Finding], console: Console) -> None:
    """Print expected, found and tolerance of each row, and on a miss what usually causes it."""
    table = Table(header_style='bold')
    for name in ('row', 'checkpoint', 'metric'):
        table.add_column(name, overflow='fold')
    for name in ('expected', 'found', 'tolerance'):
        table.add_column(name, justify='right')
    table.add_column('')
    for finding in findings:
        row = finding.match.fingerprint
        file = (finding.match.head or finding.match.checkpoint).name
        for metric, (value, tolerance) in row.expected.items():
            found = finding.found.get(metric)
            table.add_row(
                *(row.row, Text(f'{row.title} ({file})'), metric),
                *(f'{value:g}', '–' if found is None else f'{found:.2f}', f'±{tolerance:g}'),
                _verdict(metric, found, value, tolerance),
            )
    console.print(table)
    for finding in findings:
        row = finding.match.fingerprint
        if finding.problem:
            console.print(f'Row {row.row}: {finding.problem}.', markup=False, soft_wrap=True)
        if finding.missed:
            console.print(f'Row {row.row} missed. Guesses at the cause, not measured:')
            for miss in row.misses:
                console.print(f'  {miss}', markup=False, soft_wrap=True)


def _within(found: float, value: float, tolerance: float) -> bool:
    return abs(found - value) <= tolerance + _ROUNDING


def _verdict(metric: str, found: float | None, value: float, tolerance: float) -> Text:
    if found is None:
        return Text('no result', style='yellow')
    if _within(found, value, tolerance):
        return Text('ok', style='green')
    sign = '+' if found > value else '-'
    return Text(f'off by {sign}{value_text(metric, abs(found - value))}', style='red')
