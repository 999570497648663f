"""Run the whole suite at toy size: draw data, pre-train, probe, fine-tune, detect, compare.

Every stage is an ordinary command of this project and is printed before it runs. What an earlier
run has finished is skipped.

Example:
    python -m tools.demo
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from moca.engine.cli import main_guard
from tools.demo.execute import StageFailed
from tools.demo.pipeline import run_demo
from tools.demo.plan import long_plan, short_plan


class Interrupted(Exception):
    """Ctrl-C or a polite kill; `main_guard` would speak of an option that the demo has not."""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--long', action='store_true', help='five times the pre-training')
    parser.add_argument(
        '--work-dir', type=Path, help='where everything goes [work_dirs/demo or .../demo-long]'
    )
    parser.add_argument('--fresh', action='store_true', help='start over instead of going on')
    return parser.parse_args(argv)


@main_guard
def run(argv: Sequence[str] | None = None) -> None:
    """Run the demo that the command line asks for."""
    args = parse_args(argv)
    folder = args.work_dir or Path('work_dirs') / ('demo-long' if args.long else 'demo')
    plan = long_plan(folder) if args.long else short_plan(folder)
    # A file or a pipe has no width; rich would take it for 80 characters.
    console = Console(width=None if sys.stdout.isatty() else 160)
    try:
        run_demo(plan, console, args.fresh)
    except KeyboardInterrupt:
        raise Interrupted from None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; 1 if a stage failed, 130 if it was interrupted."""
    # A polite kill ends the stages as Ctrl-C does, instead of leaving them behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return run(argv)
    except StageFailed as error:
        print(f'{error}\nMend it and run the same command again: it goes on from there.')
        return 1
    except Interrupted:
        print('Interrupted. The same command goes on from here.')
        return 130


if __name__ == '__main__':
    sys.exit(main())
