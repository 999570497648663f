"""Draw what runs predict, how they went, and what patch features look like.

Examples:
    python tools/visualize.py segmentation work_dirs/a work_dirs/b --out predictions.png
    python tools/visualize.py detection work_dirs/a work_dirs/b --out objects.png
    python tools/visualize.py features configs/segmentation/cityscapes/linear-bn.py \\
        --checkpoint moca.pth --out features.png
    python tools/visualize.py curves work_dirs/a work_dirs/b --out curves.png
    python tools/visualize.py progress work_dirs/a --out progress.png
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from moca.engine.launch import add_common_arguments, main_guard
from moca.errors import UserError
from moca.evaluation.curves import curves_sheet
from moca.evaluation.progress import progress_sheet
from moca.evaluation.sheets import detection_sheet, features_sheet, segmentation_sheet
from moca.transfer.run import add_protocol_arguments


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest='command', required=True)
    for name, text in (
        ('segmentation', 'predicted label maps beside the truth'),
        ('detection', 'predicted boxes and masks beside the truth'),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument(
            'runs', nargs='+', type=Path, metavar='WORK_DIR', help='of finished runs, side by side'
        )
        if name == 'detection':
            command.add_argument('--score', type=float, default=0.3, help='draw from there on [.3]')
        _add_output(command)
    command = commands.add_parser(
        'features', help='principal components of patch features, beside random weights'
    )
    add_protocol_arguments(command)
    command.add_argument('--checkpoint', metavar='CKPT', required=True)
    command.add_argument('--branch', choices=['teacher', 'student'])
    command.add_argument('--name', metavar='LABEL', help="CKPT's name in the title")
    command.add_argument('--trust', action='store_true', help='read CKPT with plain pickle')
    command.set_defaults(seed=None, auto_scale_lr=False)
    add_common_arguments(command, resume=False)
    _add_output(command)
    command = commands.add_parser('curves', help='losses, codebook, k-NN of pre-training runs')
    command.add_argument('runs', nargs='+', type=Path, metavar='WORK_DIR', help='over each other')
    _add_output(command, pictures=False)
    command = commands.add_parser(
        'progress', help='patch features through a pre-training with the FeaturePictures hook'
    )
    command.add_argument('run', type=Path, metavar='WORK_DIR')
    _add_output(command)
    return parser.parse_args(argv)


def _add_output(parser: argparse.ArgumentParser, pictures: bool = True) -> None:
    parser.add_argument('--out', type=Path, required=True, metavar='FILE', help='.png, .pdf, .svg')
    if pictures:
        parser.add_argument('--count', type=int, default=4, help='how many pictures [4]')


@main_guard
def main(argv: Sequence[str] | None = None) -> None:
    """Draw one sheet."""
    args = parse_args(argv)
    if args.out.suffix not in ('.png', '.pdf', '.svg'):
        raise UserError(f'--out {args.out}: the name must end in .png, .pdf or .svg.')
    if args.command != 'curves' and args.count < 1:
        raise UserError(f'--count {args.count}: at least one picture.')
    if args.command == 'segmentation':
        segmentation_sheet(args.runs, args.out, args.count)
    elif args.command == 'detection':
        detection_sheet(args.runs, args.out, args.count, args.score)
    elif args.command == 'curves':
        curves_sheet(args.runs, args.out)
    elif args.command == 'progress':
        progress_sheet(args.run, args.out, args.count)
    else:
        features_sheet(args, args.out, args.count)
    print(f'Written: {args.out}')


if __name__ == '__main__':
    sys.exit(main())
