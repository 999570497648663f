"""The table of outcomes in ``docs/reliability.md``."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from pathlib import Path

from moca.engine.checkpoints import write_atomically
from tests.campaign.campaign import KEPT, read_outcomes

BEGIN, END = '<!-- written by python -m tests.campaign --page -->', '<!-- until here -->'


def write_table(page: Path, folder: Path, areas: list[str], seed: int) -> None:
    """Put the outcomes in a folder into a page, between its two marks; other areas' rows stay.

    Args:
        page: Of Markdown.
        folder: With ``AREA.jsonl`` files.
        areas: Names, in the order of the table.
        seed: That the cases were drawn by.
    """
    text = page.read_text()
    head, rest = text.split(BEGIN)
    old, tail = rest.split(END)
    rows = {line.split('|')[1].split(',')[0].strip(): line for line in old.splitlines()[3:] if line}
    for name in areas:
        if (folder / f'{name}.jsonl').is_file():
            rows[name] = _row(name, folder / f'{name}.jsonl', seed)
    titles = ['area', 'cases', *KEPT, 'not promised', 'time']
    lines = [f'| {" | ".join(titles)} |', '|---' * len(titles) + '|']
    lines += [rows[name] for name in areas if name in rows]
    write_atomically(page, '\n'.join([f'{head}{BEGIN}', *lines, f'{END}{tail}']).encode())


def _row(name: str, path: Path, seed: int) -> str:
    known = {number: (outcome, seconds) for number, outcome, seconds in read_outcomes(path)}
    counts = Counter(outcome.result for outcome, _ in known.values())
    kept = [f'{counts[result]:,}' if counts[result] else '' for result in KEPT]
    faults = len(known) - sum(counts[result] for result in KEPT)
    took = timedelta(seconds=round(sum(seconds for _, seconds in known.values())))
    cells = [f'{name}, seed {seed}', f'{len(known):,}', *kept, f'{faults}', f'{took}']
    return f'| {" | ".join(cells)} |'
