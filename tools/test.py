"""Evaluate a finished or interrupted run's checkpoint on the test set of its config.

Example:
    python tools/test.py RUN/linear.py RUN/iter_80000.pth
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from moca.engine.cli import add_common_arguments, main_guard
from moca.transfer.evaluate import evaluate, prepare_test
from moca.transfer.run import add_protocol_arguments


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_protocol_arguments(parser)
    parser.add_argument(
        'checkpoint', metavar='RUN_CHECKPOINT', help='checkpoint that tools/train.py wrote'
    )
    parser.add_argument(
        '--tta',
        action='store_true',
        help='test-time augmentation: scales and flips as in `tta` of CONFIG',
    )
    add_common_arguments(parser, resume=False)
    return parser.parse_args(argv)


@main_guard
def main(argv: Sequence[str] | None = None) -> None:
    """Check everything, evaluate, and print the metrics in percent."""
    args = parse_args(argv)
    metrics = evaluate(prepare_test(args), args.checkpoint)
    table = Table('metric', 'value')
    for name, value in metrics.items():
        table.add_row(name, '-' if value is None else f'{value:.2f}')
    Console().print(table)


if __name__ == '__main__':
    sys.exit(main())
