"""Measure the speed of parts of the suite, beside the usual way to do the same, in one run.

Example:
    python tools/benchmark.py views --data photos/
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from moca.engine.launch import main_guard
from moca.pretrain.benchmark_views import measure_views


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(title='what to measure', required=True)
    add_views(commands)
    return parser.parse_args(argv)


def add_views(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command ``views``."""
    parser = commands.add_parser(
        'views', help='pairs of views per second of one core, beside torchvision on PIL pictures'
    )
    parser.add_argument('--data', metavar='DIR', help='a folder of pictures [made for the purpose]')
    parser.add_argument('--seconds', type=float, default=10, help='of CPU time in all [10]')
    parser.add_argument('--size', type=int, default=224, help='of the views in pixels [224]')
    parser.set_defaults(run=run_views)


def run_views(args: argparse.Namespace) -> None:
    """Print the speed of both recipes and their ratio."""
    speed = measure_views(args.data, args.seconds, args.size)
    source = args.data or 'generated JPEGs of 500 x 375'
    print(f'{speed.pairs} pairs of {args.size} px views each, {speed.pictures} pictures ({source})')
    print('from file to tensors, one decode a pair, one thread; pairs per CPU second:')
    print(f'  torchvision/PIL {speed.torchvision:8.1f}')
    print(f'  moca            {speed.ours:8.1f}')
    print(f'  ratio           {speed.ratio:8.2f}')


@main_guard
def main(argv: Sequence[str] | None = None) -> None:
    """Run the chosen measurement."""
    args = parse_args(argv)
    args.run(args)


if __name__ == '__main__':
    sys.exit(main())
