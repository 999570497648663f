"""Draw what runs predict, how they went, and what backbones see.

Examples:
    python tools/visualize.py segmentation work_dirs/a work_dirs/b --out predictions.png
    python tools/visualize.py segmentation work_dirs/a --images DIR --out predictions.png
    python tools/visualize.py detection work_dirs/a work_dirs/b --out objects.png
    python tools/visualize.py detection work_dirs/a --errors --out errors.png
    python tools/visualize.py panoptic work_dirs/a work_dirs/b --out segments.png
    python tools/visualize.py depth work_dirs/a work_dirs/b --out depth.png
    python tools/visualize.py features --checkpoint moca.pth mae.pth random \\
        --arch vit_base_patch16 --images DIR --out features.png
    python tools/visualize.py attention --checkpoint moca.pth --arch vit_base_patch16 \\
        --images DIR --out attention.png
    python tools/visualize.py curves work_dirs/a work_dirs/b --out curves.png
    python tools/visualize.py progress work_dirs/a --out progress.png
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moca.checkpoints.changes import add_change_arguments, changes_of
from moca.engine.cli import main_guard
from moca.errors import UserError
from moca.evaluation.backbones import load_backbones
from moca.figures import FORMATS
from moca.images.files import some_images
from moca.visualize.curves import curves_sheet
from moca.visualize.depth import depth_predictions_sheet
from moca.visualize.features import attention_sheet, features_sheet, progress_sheet
from moca.visualize.panoptic import panoptic_sheet
from moca.visualize.predictions import detection_sheet, segmentation_sheet


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest='command', required=True)
    for name, text in (
        ('segmentation', 'predicted label maps beside the truth, and the IoU of each class'),
        ('detection', 'predicted boxes and masks beside the truth, or a breakdown of errors'),
        ('panoptic', 'predicted segments of things and stuff beside the truth'),
        ('depth', 'predicted depth beside the truth, all on one scale'),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument(
            'runs', nargs='+', type=Path, metavar='WORK_DIR', help='of finished runs, side by side'
        )
        command.add_argument(
            '--images', type=Path, metavar='DIR', help='predict these, without labels'
        )
        if name == 'segmentation':
            command.add_argument(
                '--iou',
                action=argparse.BooleanOptionalAction,
                default=True,
                help='IoU of each class, for which all validation images are predicted [yes]',
            )
        elif name == 'detection':
            command.add_argument('--score', type=float, default=0.3, help='draw from there on [.3]')
            command.add_argument(
                '--errors',
                action='store_true',
                help='instead of images: AP by size and class, and which errors it is lost to',
            )
        _add_output(command)
    for name, text in (
        ('features', 'principal components of patch features'),
        ('attention', "the class token's attention to patches, on average and of each head"),
    ):
        command = commands.add_parser(name, help=text)
        _add_backbones(command)
        if name == 'attention':
            command.add_argument('--block', type=int, default=-1, help='counted from 0 [the last]')
        _add_output(command)
    command = commands.add_parser('curves', help='losses, codebook, k-NN of pre-training runs')
    command.add_argument('runs', nargs='+', type=Path, metavar='WORK_DIR', help='over each other')
    _add_output(command, images=False)
    command = commands.add_parser(
        'progress', help='patch features through a pre-training with the FeatureFigures hook'
    )
    command.add_argument('run', type=Path, metavar='WORK_DIR')
    _add_output(command)
    return parser.parse_args(argv)


def _add_backbones(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        *('--checkpoint', '-c'),
        nargs='+',
        required=True,
        metavar='CKPT',
        help='files of any family, side by side; random for random weights',
    )
    parser.add_argument(
        '--arch',
        nargs='+',
        default=[],
        metavar='NAME',
        help='timm name, or a config (.py) to take model.backbone.arch of, or auto for that of the '
        'file; one, or one for each [auto]',
    )
    parser.add_argument('--branch', choices=['teacher', 'student'])
    parser.add_argument('--name', nargs='+', default=[], metavar='LABEL', help='one for each CKPT')
    parser.add_argument(
        '--grid',
        nargs=2,
        type=int,
        metavar=('ROWS', 'COLUMNS'),
        help="of the file's positions, if they are not square",
    )
    parser.add_argument(
        '--prefix', help='what stands before the keys of the encoder, where CKPT holds several'
    )
    add_change_arguments(parser)
    parser.add_argument('--trust', action='store_true', help='read CKPT with plain pickle')
    parser.add_argument(
        '--images', type=Path, required=True, metavar='DIR', help='any folder, searched deeply'
    )
    parser.add_argument(
        '--size',
        nargs='+',
        type=int,
        default=[448],
        metavar='PIXELS',
        help='of the shorter side; or height and width; rounded to whole patches [448]',
    )


def _add_output(parser: argparse.ArgumentParser, images: bool = True) -> None:
    parser.add_argument(
        '--out', type=Path, required=True, metavar='FILE', help='.png, .pdf, .svg or .html'
    )
    if images:
        parser.add_argument('--count', type=int, default=4, help='how many images [4]')


@main_guard
def main(argv: Sequence[str] | None = None) -> None:
    """Draw one sheet."""
    args = parse_args(argv)
    if args.out.suffix not in FORMATS:
        raise UserError(f'--out {args.out}: the name must end in {", ".join(FORMATS)}.')
    if args.command != 'curves' and args.count < 1:
        raise UserError(f'--count {args.count}: at least one image.')
    if args.command == 'segmentation':
        segmentation_sheet(args.runs, args.out, args.count, args.images, args.iou)
    elif args.command == 'detection':
        _detection(args)
    elif args.command == 'panoptic':
        panoptic_sheet(args.runs, args.out, args.count, args.images)
    elif args.command == 'depth':
        depth_predictions_sheet(args.runs, args.out, args.count, args.images)
    elif args.command == 'curves':
        curves_sheet(args.runs, args.out)
    elif args.command == 'progress':
        progress_sheet(args.run, args.out, args.count)
    else:
        _backbones(args)
    print(f'Written: {args.out}')


def _detection(args: Any) -> None:
    if args.errors and args.images:
        raise UserError('--errors needs truth, which --images has not: give one of the two.')
    if args.errors:
        # here: mmdet's metrics take a second to import, and warn of what they do not find
        from moca.visualize.errors import error_sheet

        error_sheet(args.runs, args.out)
    else:
        detection_sheet(args.runs, args.out, args.count, args.score, args.images)


def _backbones(args: Any) -> None:
    if len(args.size) > 2 or min(args.size) < 1:
        raise UserError(f'--size {args.size}: give the shorter side, or height and width.')
    paths = some_images(args.images, args.count)
    backbones = load_backbones(
        args.checkpoint,
        args.arch,
        args.name,
        branch=args.branch,
        block=getattr(args, 'block', -1),
        grid=None if args.grid is None else tuple(args.grid),
        trust=args.trust,
        prefix=args.prefix,
        **changes_of(args),
    )
    draw = attention_sheet if args.command == 'attention' else features_sheet
    draw(backbones, paths, args.size, args.out)


if __name__ == '__main__':
    sys.exit(main())
