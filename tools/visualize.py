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
    python tools/visualize.py video --checkpoint moca.pth random --arch vit_base_patch16 \\
        --frames DAVIS/JPEGImages/480p/cows --mask DAVIS/Annotations/480p/cows/00000.png \\
        --out cows.gif
    python tools/visualize.py correspondence --checkpoint moca.pth --arch vit_base_patch16 \\
        --data-root SPair-71k --out keypoints.png
    python tools/visualize.py discovery --checkpoint moca.pth --arch vit_base_patch16 \\
        --images DIR --out boxes.png
    python tools/visualize.py curves work_dirs/a work_dirs/b --out curves.png
    python tools/visualize.py progress work_dirs/a --out progress.png
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moca.command_line import add_change_arguments, add_verbose, share_number
from moca.errors import UserError
from moca.light import light_guard

if TYPE_CHECKING:
    from moca.evaluation.backbones import NamedBackbone


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
            command.add_argument(
                '--score', type=share_number, default=0.3, help='draw from there on [.3]'
            )
            command.add_argument(
                '--errors',
                action='store_true',
                help='instead of images: AP by size and class, and which errors it is lost to',
            )
        _add_output(command)
    for name, text in (
        ('features', 'principal components of patch features'),
        ('attention', "the class token's attention to patches, on average and of each head"),
        ('discovery', "the box of LOST and its seed patch, found by a backbone's own features"),
    ):
        command = commands.add_parser(name, help=text)
        _add_backbones(command)
        _add_images(command)
        if name == 'attention':
            command.add_argument('--block', type=int, default=-1, help='counted from 0 [the last]')
        elif name == 'discovery':
            command.add_argument(
                '--features',
                choices=['keys', 'output'],
                default='keys',
                help='keys of the last attention, or its output after the final norm [keys]',
            )
        _add_output(command)
    _add_video(commands.add_parser('video', help="what becomes of a video's first mask"))
    _add_pairs(
        commands.add_parser('correspondence', help='keypoints that are found in another image')
    )
    command = commands.add_parser('curves', help='losses, codebook, k-NN of pre-training runs')
    command.add_argument('runs', nargs='+', type=Path, metavar='WORK_DIR', help='over each other')
    _add_output(command, images=False)
    command = commands.add_parser(
        'progress', help='patch features through a pre-training with the FeatureFigures hook'
    )
    command.add_argument('run', type=Path, metavar='WORK_DIR')
    _add_output(command)
    for command in commands.choices.values():
        add_verbose(command)
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


def _add_images(parser: argparse.ArgumentParser) -> None:
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


def _add_video(parser: argparse.ArgumentParser) -> None:
    _add_backbones(parser)
    parser.add_argument(
        '--frames', type=Path, required=True, metavar='DIR', help='in the order of their names'
    )
    parser.add_argument(
        '--mask', type=Path, required=True, metavar='PNG', help='label map of the first frame'
    )
    parser.add_argument(
        '--preset',
        default='dino',
        help='dino, dinov3-s, dinov3-m or dinov3-l: size and propagation [dino]',
    )
    parser.add_argument(
        '--short-side', type=int, metavar='PIXELS', help='of the frames [as the preset says]'
    )
    _add_output(parser, formats='.png, .pdf, .svg; .gif, an animation; .html, both')


def _add_pairs(parser: argparse.ArgumentParser) -> None:
    _add_backbones(parser)
    parser.add_argument(
        '--data-root', type=Path, required=True, metavar='DIR', help='SPair-71k, or laid out as it'
    )
    parser.add_argument('--split', default='test', help='of its pairs [test]')
    parser.add_argument('--category', metavar='NAME', help='pairs of one class [all]')
    parser.add_argument(
        '--size', type=int, default=448, metavar='PIXELS', help='of the square images [448]'
    )
    _add_output(parser)


def _add_output(
    parser: argparse.ArgumentParser,
    images: bool = True,
    formats: str = '.png, .pdf, .svg or .html',
) -> None:
    parser.add_argument('--out', type=Path, required=True, metavar='FILE', help=formats)
    if images:
        parser.add_argument('--count', type=int, default=4, help='how many images [4]')


def main(argv: Sequence[str] | None = None) -> int:
    """Draw one sheet."""
    args = parse_args(argv)
    if args.command == 'curves':
        return light_guard(draw_sheet)(args)
    from moca.engine.cli import main_guard  # takes seconds, which --help need not
    from moca.engine.terminal import quietly

    return main_guard(quietly(draw_sheet))(args)


def draw_sheet(args: argparse.Namespace) -> None:
    """Do what the arguments ask for."""
    from moca.figures import FORMATS

    formats = (*FORMATS, '.gif') if args.command == 'video' else FORMATS
    if args.out.suffix not in formats:
        raise UserError(f'--out {args.out}: the name must end in {", ".join(formats)}.')
    if args.command != 'curves' and args.count < 1:
        raise UserError(f'--count {args.count}: at least one image.')
    _DRAWN.get(args.command, _images)(args)
    print(f'Written: {args.out}')


# Each imports what it draws with: curves need no models, and features neither mmseg nor mmdet.
def _segmentation(args: Any) -> None:
    from moca.visualize.predictions import segmentation_sheet
    from moca.visualize.untrained import is_untrained, untrained_sheet

    if not any(map(is_untrained, args.runs)):
        segmentation_sheet(args.runs, args.out, args.count, args.images, args.iou)
    elif args.images is None:
        untrained_sheet(args.runs, args.out, args.count)
    else:
        raise UserError(
            f'--images: {args.runs[0]} has kept predictions of its validation images alone. '
            'Leave it out.'
        )


def _panoptic(args: Any) -> None:
    from moca.visualize.panoptic import panoptic_sheet

    panoptic_sheet(args.runs, args.out, args.count, args.images)


def _depth(args: Any) -> None:
    from moca.visualize.depth import depth_predictions_sheet

    depth_predictions_sheet(args.runs, args.out, args.count, args.images)


def _curves(args: Any) -> None:
    from moca.visualize.curves import curves_sheet

    curves_sheet(args.runs, args.out)


def _progress(args: Any) -> None:
    from moca.visualize.features import progress_sheet

    progress_sheet(args.run, args.out, args.count)


def _detection(args: Any) -> None:
    from moca.visualize.predictions import detection_sheet

    if args.errors and args.images:
        raise UserError('--errors needs truth, which --images has not: give one of the two.')
    if args.errors:
        # here: mmdet's metrics take a second to import, and warn of what they do not find
        from moca.visualize.errors import error_sheet

        error_sheet(args.runs, args.out)
    else:
        detection_sheet(args.runs, args.out, args.count, args.score, args.images)


def _loaded(args: Any) -> list[NamedBackbone]:
    from moca.checkpoints.changes import changes_of
    from moca.evaluation.backbones import load_backbones

    return load_backbones(
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


def _images(args: Any) -> None:
    from moca.images.files import some_images
    from moca.visualize.discoveries import discovery_sheet
    from moca.visualize.features import attention_sheet, features_sheet

    if len(args.size) > 2 or min(args.size) < 1:
        raise UserError(f'--size {args.size}: give the shorter side, or height and width.')
    paths = some_images(args.images, args.count)
    backbones = _loaded(args)
    if args.command == 'discovery':
        discovery_sheet(backbones, paths, args.size, args.out, args.features)
        return
    draw = attention_sheet if args.command == 'attention' else features_sheet
    draw(backbones, paths, args.size, args.out)


def _video(args: Any) -> None:
    from moca.evaluation.dense.davis import chosen_preset
    from moca.visualize.videos import video_sheet

    chosen_preset(args.preset, args.short_side)  # wrong ones are refused before weights are read
    where = args.frames, args.mask, args.preset, args.out, args.count
    video_sheet(_loaded(args), *where, short_side=args.short_side)


def _correspondence(args: Any) -> None:
    from moca.visualize.correspondences import correspondence_sheet

    if args.size < 1:
        raise UserError(f'--size {args.size}: give the side of the square images in pixels.')
    data = args.data_root, args.out, args.count, args.size, args.split, args.category
    correspondence_sheet(_loaded(args), *data)


_DRAWN: dict[str, Callable[[Any], None]] = {
    'segmentation': _segmentation,
    'detection': _detection,
    'panoptic': _panoptic,
    'depth': _depth,
    'curves': _curves,
    'progress': _progress,
    'video': _video,
    'correspondence': _correspondence,
}
"""What draws a sheet, by its command; `_images` draws the others."""


if __name__ == '__main__':
    sys.exit(main())
