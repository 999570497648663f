"""The table of outcomes in ``docs/reliability.md``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from moca.records.whole_files import write_atomically
from tests.campaign.campaign import KEPT, SKIPPED, code_digest, is_of_this_code, read_outcomes

BEGIN, END = '<!-- written by python -m tests.campaign --page -->', '<!-- until here -->'
_EARLIER = ', earlier'  # behind the digest of a row


def write_table(page: Path, folder: Path, areas: Mapping[str, int], seed: int) -> list[str]:
    """Put the outcomes in a folder into a page, between its two marks; other areas' rows stay.

    Outcomes of other code than this are left out. The last column has the beginning of the code's
    digest, and marks rows of another one, which are of an earlier campaign.

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
    titles = ['area', 'cases', *KEPT, 'not promised', 'time', 'code']
    rows = {}
    for line in old.splitlines()[3:]:
        cells = [cell.strip() for cell in line.strip('|').split('|')]
        rows[cells[0].split(',')[0]] = _marked(cells, len(titles))
    found = {name: folder / f'{name}.jsonl' for name in areas}
    known = {name: path for name, path in found.items() if path.is_file()}
    current = {name: path for name, path in known.items() if is_of_this_code(path)}
    for name, path in current.items():
        rows[name] = _row(name, path, areas[name], seed)
    lines = [f'| {" | ".join(titles)} |', '|---' * len(titles) + '|']
    ordered = (rows[name] for name in dict.fromkeys([*areas, *rows]) if name in rows)
    lines += [f'| {" | ".join(cells)} |' for cells in ordered]
    write_atomically(page, '\n'.join([f'{head}{BEGIN}', *lines, f'{END}{tail}']).encode())
    return [name for name in known if name not in current]


def _marked(cells: list[str], columns: int) -> list[str]:
    """The cells of a row, whose last one says whether it is of other code."""
    *others, code = [*cells, *[''] * (columns - len(cells))]
    if code != _short(code_digest()):
        code = f'{code.removesuffix(_EARLIER) or "unknown"}{_EARLIER}'
    return [*others, code]


def _short(digest: str) -> str:
    return digest[:8]


def _row(name: str, path: Path, count: int, seed: int) -> list[str]:
    known = {number: (outcome, seconds) for number, outcome, seconds in read_outcomes(path)}
    counts = Counter(outcome.result for outcome, _ in known.values())
    kept = [f'{counts[result]:,}' if counts[result] else '' for result in KEPT]
    faults = len(known) - sum(counts[result] for result in (*KEPT, SKIPPED))
    took = timedelta(seconds=round(sum(seconds for _, seconds in known.values())))
    cases = f'{len(known):,}' + (f' of {count:,}' if len(known) < count else '')
    cases += f', {counts[SKIPPED]} skipped' if counts[SKIPPED] else ''
    return [f'{name}, seed {seed}', cases, *kept, f'{faults}', f'{took}', _short(code_digest())]
