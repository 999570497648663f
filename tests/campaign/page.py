"""The table of outcomes in ``docs/reliability.md``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from moca.engine.checkpoints import write_atomically
from tests.campaign.campaign import KEPT, is_of_this_code, read_outcomes

BEGIN, END = '<!-- written by python -m tests.campaign --page -->', '<!-- until here -->'


def write_table(page: Path, folder: Path, areas: Mapping[str, int], seed: int) -> list[str]:
    """Put the outcomes in a folder into a page, between its two marks; other areas' rows stay.

    Outcomes of other code than this are left out.

    Args:
        page: Of Markdown.
        folder: With ``AREA.jsonl`` files.
        areas: How many cases each has by its name, in the order of the table.
        seed: That the cases were drawn by.

    Returns:
        The areas that were left out.
    """
    text = page.read_text()
    head, rest = text.split(BEGIN)
    old, tail = rest.split(END)
    rows = {line.split('|')[1].split(',')[0].strip(): line for line in old.splitlines()[3:] if line}
    found = {name: folder / f'{name}.jsonl' for name in areas}
    known = {name: path for name, path in found.items() if path.is_file()}
    current = {name: path for name, path in known.items() if is_of_this_code(path)}
    for name, path in current.items():
        rows[name] = _row(name, path, areas[name], seed)
    titles = ['area', 'cases', *KEPT, 'not promised', 'time']
    lines = [f'| {" | ".join(titles)} |', '|---' * len(titles) + '|']
    lines += [rows[name] for name in dict.fromkeys([*areas, *rows]) if name in rows]
    write_atomically(page, '\n'.join([f'{head}{BEGIN}', *lines, f'{END}{tail}']).encode())
    return [name for name in known if name not in current]


def _row(name: str, path: Path, count: int, seed: int) -> str:
    known = {number: (outcome, seconds) for number, outcome, seconds in read_outcomes(path)}
    counts = Counter(outcome.result for outcome, _ in known.values())
    kept = [f'{counts[result]:,}' if counts[result] else '' for result in KEPT]
    faults = len(known) - sum(counts[result] for result in KEPT)
    took = timedelta(seconds=round(sum(seconds for _, seconds in known.values())))
    cases = f'{len(known):,}' + (f' of {count:,}' if len(known) < count else '')
    cells = [f'{name}, seed {seed}', cases, *kept, f'{faults}', f'{took}']
    return f'| {" | ".join(cells)} |'
