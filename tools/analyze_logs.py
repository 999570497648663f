"""Plot what runs have logged, or say how long their steps took, as OpenMMLab's tool.

A run that was resumed counts as one. tools/visualize.py curves draws a pre-training's own curves.

Examples:
    python tools/analyze_logs.py plot_curve work_dirs/a work_dirs/b --keys loss mIoU --out loss.png
    python tools/analyze_logs.py cal_train_time work_dirs/a
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moca.errors import UserError
from moca.light import light_guard

Curve = tuple[NDArray[np.int64], NDArray[np.float64]]


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest='command', required=True)
    plot = commands.add_parser('plot_curve', help='curves of logged values over steps')
    time = commands.add_parser('cal_train_time', help='seconds of a step')
    for command in (plot, time):
        command.add_argument('runs', nargs='+', type=Path, metavar='WORK_DIR')
    plot.add_argument('--keys', nargs='+', default=['loss'], metavar='NAME', help='what [loss]')
    plot.add_argument('--legend', nargs='+', metavar='TEXT', help='one for each curve')
    plot.add_argument('--title')
    plot.add_argument('--out', type=Path, required=True, metavar='FILE', help='.png, .pdf or .svg')
    time.add_argument(
        '--include-outliers', action='store_true', help='count the first logged step as well'
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Plot, or print times."""
    return light_guard(analyze)(parse_args(argv))


def analyze(args: argparse.Namespace) -> None:
    """Do what the arguments ask for."""
    from moca.records.run_logs import read_curves

    logs = {run: read_curves(run) for run in args.runs}
    if args.command == 'cal_train_time':
        for run, curves in logs.items():
            print(_times(run, _curve(run, curves, 'time'), args.include_outliers))
        return
    found = [(run, key, _curve(run, logs[run], key)) for run in logs for key in args.keys]
    if args.legend and len(args.legend) != len(found):
        raise UserError(f'--legend: {len(args.legend)} texts for {len(found)} curves.')
    if args.out.suffix not in ('.png', '.pdf', '.svg'):
        raise UserError(f'--out {args.out}: the name must end in .png, .pdf or .svg.')
    import matplotlib.figure  # late: drawing is one of two commands

    figure = matplotlib.figure.Figure(figsize=(7, 4.5), layout='constrained')
    axes = figure.add_subplot()
    for number, (run, key, (steps, values)) in enumerate(found):
        label = args.legend[number] if args.legend else f'{run.name} {key}'
        axes.plot(steps, values, label=label, marker='.' if len(steps) < 20 else None)
    axes.set(xlabel='step', title=args.title or '')
    axes.grid(alpha=0.3)
    axes.legend()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out, dpi=150)
    print(f'Written: {args.out}')


def _curve(run: Path, curves: dict[str, Curve], key: str) -> Curve:
    """A curve by its name, or by the end of it behind a slash.

    Raises:
        UserError: the run has not logged it; names what it has.
    """
    for name, curve in curves.items():
        if name == key or name.rpartition('/')[2] == key:
            return curve
    raise UserError(f'{run}: has logged no {key}, but {", ".join(sorted(curves))}.')


def _times(run: Path, curve: Curve, all_steps: bool) -> str:
    steps, seconds = curve
    if not all_steps and len(seconds) > 1:
        steps, seconds = steps[1:], seconds[1:]
    slow, fast = int(np.argmax(seconds)), int(np.argmin(seconds))
    return (
        f'{run}: {seconds.mean():.4f} s a step on average (deviation {seconds.std():.4f}), '
        f'at step {steps[slow]} {seconds[slow]:.4f}, at step {steps[fast]} {seconds[fast]:.4f}'
    )


if __name__ == '__main__':
    sys.exit(main())
