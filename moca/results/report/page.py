"""The report: leaderboard, bars, and beside every number what it depends on, in one HTML page.

The page is one file that asks nothing of the network: styles, script and pictures are in it, and a
content security policy lets nothing else run, whatever a name or a log holds.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata, resources
from pathlib import Path

import jinja2

from moca.records.run_reading import Omission, Run, read_runs
from moca.records.whole_files import write_atomically
from moca.results import tables
from moca.results.leaderboard import build_leaderboard
from moca.results.report import charts
from moca.results.report.pictures import Gallery
from moca.results.report.results import protocol_bars, result_lines
from moca.results.report.runs import Options, checkpoint_parts, run_part


def write_report(roots: list[Path], out: Path, options: Options) -> list[str]:
    """Read all runs below some folders and write the page.

    Args:
        roots: Folders, searched recursively.
        out: The page, ``.html``.
        options: What is drawn.

    Returns:
        What was left out, a line for each reason.

    Raises:
        UserError: There is no run below the folders, or one of them does not exist.
    """
    runs, omissions = read_runs(roots)
    gallery = Gallery(options.limit)
    page = render(runs, omissions, options, gallery, [str(root) for root in roots])
    write_atomically(out, page.encode())
    return tables.counted_lines(gallery.missing)


def render(
    runs: Sequence[Run],
    omissions: Sequence[Omission],
    options: Options,
    gallery: Gallery,
    roots: Sequence[str],
) -> str:
    """Return the page of some runs; see :func:`write_report`."""
    board = build_leaderboard(runs, omissions)
    numbers = {run.folder: number for number, run in enumerate(runs)}
    script = own_file('script.js')
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader('moca.results.report', '.'),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters['anchor'] = anchor
    checkpoints = checkpoint_parts(board, runs, numbers, options, gallery)
    unfinished = [
        (omission, run_part(omission.folder, len(runs) + place, omission.folder.name, ()))
        for place, omission in enumerate(omissions)
    ]
    return environment.get_template('page.html').render(
        # a hash in base64 has no letter that HTML would take for its own
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        script=script,
        style=own_file('style.css'),
        roots=roots,
        made=datetime.now(UTC).strftime('%Y-%m-%d %H:%M'),
        version=metadata.version('moca'),
        results=result_lines(board, numbers),
        protocols=protocol_bars(board),
        checkpoints=checkpoints,
        unfinished=unfinished,
        remarks=tables.remarks(board) if board.rows else [],
        missing=tables.counted_lines(gallery.missing),
        options=options,
        width=charts.WIDTH,
        height=charts.HEIGHT,
        number=charts.short,
    )


def own_file(name: str) -> str:
    """Return the text of a file of this room."""
    return resources.files('moca.results.report').joinpath(name).read_text('utf-8')


_UNSAFE = re.compile(r'[^\w.-]+')


def anchor(text: str) -> str:
    """Return a name for links within the page."""
    return _UNSAFE.sub('-', text)
