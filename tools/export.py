"""Write a trained model as a file that runs without this suite, and verify it.

Segmentors, depth, detectors and mask transformers, from a run of tools/train.py; with --backbone
the features of a run's ViT, or of any checkpoint with --arch. Weights for other libraries are
written by tools/checkpoint.py export.

Examples:
    python tools/export.py work_dirs/RUN --to onnx --out model.onnx
    python tools/export.py work_dirs/RUN --to onnx --size 512 1024 --verify IMAGES --out model.onnx
    python tools/export.py work_dirs/RUN --to onnx --logits --out window.onnx
    python tools/export.py moca.pth --backbone --arch auto --size 448 448 --out vit.onnx
    python tools/export.py work_dirs/RUN --to torch-export --out model.pt2
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moca.command_line import add_verbose
from moca.errors import UserError


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'run', metavar='RUN', help='work dir of a run, or a checkpoint; of any family: --backbone'
    )
    parser.add_argument('--config', help='of the checkpoint, where it does not hold its own')
    parser.add_argument(
        '--to', default='onnx', choices=['onnx', 'torch-export'], help='format of the file [onnx]'
    )
    parser.add_argument(
        '--out', type=Path, metavar='FILE', help='.onnx or .pt2 [RUN/export.onnx, .pt2]'
    )
    parser.add_argument('--force', action='store_true', help='write over a file that exists')
    parser.add_argument(
        '--size',
        nargs=2,
        type=int,
        metavar=('HEIGHT', 'WIDTH'),
        help='of the images in pixels [a window, or what images are resized to in tests]',
    )
    parser.add_argument(
        '--logits',
        action='store_true',
        help='of a segmentor: logits of one window, for moca/export/runtime.py, in place of labels',
    )
    parser.add_argument('--backbone', action='store_true', help='the ViT alone: its tokens')
    parser.add_argument(
        '--arch', default='auto', help='of --backbone: timm name [that of the checkpoint]'
    )
    parser.add_argument('--branch', choices=['teacher', 'student'], help='of --backbone')
    parser.add_argument(
        '--verify',
        metavar='IMAGES',
        help='image or folder on which the file is held against the model; none for no check '
        '[a generated image]',
    )
    parser.add_argument(
        '--count', type=int, default=4, help='how many images of a folder to verify by [4]'
    )
    add_verbose(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Export, verify, and say what was written."""
    args = parse_args(argv)
    from moca.engine.cli import main_guard  # takes seconds, which --help need not
    from moca.engine.terminal import quietly

    return main_guard(quietly(export))(args)


def export(args: argparse.Namespace) -> None:
    """Write what the arguments ask for."""
    from moca.export.command import check_out, default_size, graph_of, write
    from moca.export.writing import FORMATS, check_packages

    check_packages(args.to)
    run = Path(args.run)
    folder = run if run.is_dir() else run.parent
    out = args.out or folder / f'export{FORMATS[args.to]}'
    if args.out or out.exists():
        check_out(out, args.to, args.force)  # before the model is loaded
    model, cfg, classes = loaded(args)
    size = tuple(args.size) if args.size else default_size(model, cfg)
    graph = graph_of(model, (size[0], size[1]), args.logits)
    verifying = args.verify, args.count, args.force
    for line in write(model, graph, out, args.to, classes, *verifying):
        print(line)


def loaded(args: argparse.Namespace) -> tuple[Any, Any, Sequence[str]]:
    """The model to export, its config, and the names of its classes."""
    from moca.evaluation.backbones import load_backbones
    from moca.predict.trained import load_trained

    if not args.backbone:
        if args.arch != 'auto' or args.branch:
            raise UserError('--arch and --branch are of --backbone. Leave them out, or give it.')
        trained = load_trained(args.run, args.config, device='cpu')
        return trained.model, trained.cfg, trained.classes
    if args.config:
        raise UserError('--config is of a whole model. Leave it out of --backbone; give --arch.')
    found = load_backbones([args.run], [args.arch], branch=args.branch)[0]
    return found.model.cpu(), None, ()


if __name__ == '__main__':
    sys.exit(main())
