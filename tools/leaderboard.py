"""Show what finished runs measured, with published results beside them.

Example:
    python tools/leaderboard.py show work_dirs --markdown leaderboard.md --csv leaderboard.csv
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from moca.engine.checkpoints import write_atomically
from moca.engine.launch import main_guard
from moca.errors import UserError
from moca.evaluation import tables
from moca.evaluation.leaderboard import build_leaderboard
from moca.evaluation.records import read_runs


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest='command', required=True)
    command = commands.add_parser('show', help='one row per checkpoint, one column per protocol')
    command.add_argument(
        'work_dirs', nargs='+', type=Path, metavar='WORK_DIRS', help='searched recursively'
    )
    command.add_argument(
        '--markdown', type=Path, metavar='FILE', help='write the table as Markdown'
    )
    command.add_argument('--csv', type=Path, metavar='FILE', help='write one line per cell')
    command.add_argument('--plot', type=Path, metavar='FILE', help='draw bars (.png, .pdf, .svg)')
    return parser.parse_args(argv)


@main_guard
def main(argv: Sequence[str] | None = None) -> None:
    """Read the runs, print the table, write the files asked for."""
    args = parse_args(argv)
    for path in (args.markdown, args.csv, args.plot):
        if path is not None and not path.parent.is_dir():
            raise UserError(f'{path}: the folder {path.parent} does not exist; create it first.')
    board = build_leaderboard(*read_runs(args.work_dirs))
    # A file or a pipe has no width; rich would take it for 80 characters.
    tables.show(board, Console(width=None if sys.stdout.isatty() else 160))
    if args.markdown:
        write_atomically(args.markdown, tables.markdown(board).encode())
    if args.csv:
        write_atomically(args.csv, tables.frame(board).to_csv(index=False).encode())
    if args.plot:
        tables.plot(board, args.plot)


if __name__ == '__main__':
    sys.exit(main())
