"""Predict images, folders and videos with what a run has trained.

MODEL is the folder of a run, or a checkpoint; or a config, with a checkpoint behind it. What is
written to --out: masks/ (label maps with the data set's own values), detections.json (COCO),
panoptic/ and panoptic.json, depth/ (16 bits, millimeters) or classes.csv; and overlays/, those of a
video as a video too. The same command continues where it was stopped.

Examples:
    python tools/predict.py work_dirs/probe IMAGES --out predicted
    python tools/predict.py work_dirs/probe 'drive/*.png' drive.mp4 --out predicted --tta
    python tools/predict.py CONFIG.py CKPT.pth IMAGES --out predicted --window 512 --amp
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import track

from moca.command_line import add_verbose, share_number, whole_number
from moca.errors import UserError

if TYPE_CHECKING:
    from moca.predict.inputs import Input

CONSOLE = Console(stderr=True, soft_wrap=True)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('model', metavar='MODEL', help='run, checkpoint, or CONFIG.py CKPT')
    parser.add_argument(
        'inputs', nargs='+', metavar='INPUT', help="image, folder, video, or pattern ('a/**/*.png')"
    )
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='where to write')
    parser.add_argument(
        '--tta', action='store_true', help='average over the scales and flips of the config'
    )
    parser.add_argument(
        '--window', type=whole_number(1), metavar='SIDE', help='side of the sliding window, pixels'
    )
    parser.add_argument(
        '--batch', type=whole_number(1), default=1, metavar='N', help='images at a time [1]'
    )
    parser.add_argument(
        '--amp', action='store_true', help='in bfloat16, or in float16 on older GPUs'
    )
    parser.add_argument(
        '--score', type=share_number, default=0.3, help='draw objects from there on [.3]'
    )
    parser.add_argument(
        '--overlays',
        action=argparse.BooleanOptionalAction,
        default=True,
        help='draw what is predicted over the images [yes]',
    )
    parser.add_argument(
        '--arch', metavar='NAME', help='auto: the architecture of a published file [as in CONFIG]'
    )
    parser.add_argument('--device', help='such as cuda:1 [the GPU, if there is one]')
    add_verbose(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Predict all inputs; exit status 2 if some could not be read, when all others are done."""
    args = parse_args(argv)
    from moca.engine.cli import main_guard  # takes seconds, which --help need not
    from moca.engine.terminal import quietly

    return main_guard(quietly(predict))(args)


def predict(args: argparse.Namespace) -> None:
    """Find the inputs, load the model, and write what it says of them.

    Raises:
        UserError: Something is wrong with the arguments, or some inputs could not be read.
    """
    from moca.predict.folder import identity, open_folder, predict_files
    from moca.predict.inputs import find_inputs
    from moca.predict.predictor import load

    source, config, given = args.model, None, list(args.inputs)
    if source.endswith('.py'):
        config, source = source, given.pop(0)
        if not given:
            raise UserError(f'{config} {source}: what is to be predicted? CONFIG CKPT INPUT ...')
    inputs, root = find_inputs(given)
    inputs = without_results(inputs, args.out)
    how: dict[str, Any] = dict(tta=args.tta, window=args.window, amp=args.amp)
    predictor = load(source, config, arch=args.arch, device=args.device, **how)
    drawing = dict(overlays=args.overlays, score=args.score)
    open_folder(args.out, identity(predictor, root, **how, **drawing))
    files = f'{len(inputs):,} file{"s" * (len(inputs) > 1)}'
    print(f'{predictor.task} by {predictor.trained.checkpoint}: {files} to {args.out}')
    outcome = predict_files(
        *(predictor, inputs, args.out),
        batch=args.batch,
        watch=progress,
        report=lambda line: CONSOLE.print(line, markup=False),
        **drawing,
    )
    earlier = f', {outcome.earlier:,} were done before' if outcome.earlier else ''
    images = f'{outcome.done:,} image{"s" * (outcome.done != 1)}'
    print(f'{images} predicted{earlier}: {outcome.table or args.out}')
    if outcome.broken:
        raise UserError(
            f'{len(outcome.broken)} of {len(inputs)} files could not be read; all others are done. '
            f'The first: {outcome.broken[0]}'
        )


def without_results(inputs: list[Input], out: Path) -> list[Input]:
    """Leave out what lies in the folder of results, and say how much.

    Raises:
        UserError: Nothing else is given.
    """
    kept = [item for item in inputs if not item.path.is_relative_to(os.path.abspath(out))]
    if not kept:
        raise UserError(f'--out {out}: all inputs lie in it. Choose another folder.')
    if len(kept) < len(inputs):
        own = len(inputs) - len(kept)
        print(f'left out: {own:,} file{"s" * (own > 1)} in --out {out}')
    return kept


def progress(items: Iterable[Any], count: int) -> Iterable[Any]:
    """Show how far an iteration is."""
    return track(items, 'predicting', total=count, console=CONSOLE)


if __name__ == '__main__':
    sys.exit(main())
