"""Make a download ready for training, or look through the data of any mmseg or mmdet config.

Examples:
    python tools/prepare_data.py cityscapes data/cityscapes
    python tools/prepare_data.py ade20k data/ADEChallengeData2016
    python tools/prepare_data.py voc data/VOCdevkit/VOC2012 --sbd data/benchmark_RELEASE
    python tools/prepare_data.py check configs/segmentation/driving/linear-bn.py --data-root DIR
    python tools/prepare_data.py check configs/depth/nyu_linear.py --data-root DIR
    python tools/prepare_data.py check configs/detection/coco/mask-rcnn_1x.py --data-root DIR
    python tools/prepare_data.py check configs/detection/coco/eomt_panoptic.py --data-root DIR
    python tools/prepare_data.py shards data/imagenet/train data/imagenet-shards --size 512MB
    python tools/prepare_data.py check data/imagenet-shards
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmengine.config import Config
from rich.console import Console
from rich.progress import track
from rich.table import Table

from moca.command_line import add_verbose
from moca.errors import UserError

if TYPE_CHECKING:
    from moca.data.prepare import Prepared


# A file or a pipe has no width; rich would take it for 80 characters.
CONSOLE = Console(width=None if sys.stdout.isatty() else 120)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest='command', required=True)
    for name, text in (
        ('cityscapes', 'make train ids of the labelIds, and check the layout'),
        ('ade20k', 'check the layout'),
        ('voc', "make the label maps and the list of 'trainaug' with SBD's, and check the layout"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument('root', type=Path, metavar='ROOT', help='where the archives unpack')
        if name == 'voc':
            command.add_argument(
                '--sbd', type=Path, metavar='DIR', help="SBD's folder, with dataset/cls [in ROOT]"
            )
    command = commands.add_parser(
        'shards', help='write a folder of images as tar shards for pre-training'
    )
    command.add_argument('root', type=Path, metavar='FOLDER', help='searched with all below it')
    command.add_argument('out', type=Path, metavar='OUT', help='folder for the shards')
    command.add_argument(
        '--size', default='512MB', help='of a shard, in bytes, KB, MB, GB, KiB, MiB or GiB [512MB]'
    )
    command = commands.add_parser(
        'check', help='look at every image and label of a config, or at all of tar shards'
    )
    command.add_argument(
        'config',
        metavar='CONFIG',
        help="any config of mmseg, of depth, or of mmdet with data in COCO's format; or tar "
        'shards, by their folder, a range or a URL',
    )
    command.add_argument('--data-root', help='folder of the data, laid out as CONFIG says')
    command.add_argument(
        '--out',
        type=Path,
        metavar='FILE',
        help='sheet [work_dirs/data/FOLDER_CONFIG_DATA.png]',
    )
    command.add_argument('--count', type=int, default=4, help='images of each split in it [4]')
    for command in commands.choices.values():
        add_verbose(command)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Do one of the five; raises UserError (exit status 2) if something is wrong."""
    args = parse_args(argv)
    from moca.engine.cli import main_guard  # takes seconds, which --help need not
    from moca.engine.terminal import quietly

    return main_guard(quietly(prepare))(args)


def prepare(args: argparse.Namespace) -> None:
    """Do what the arguments ask for."""
    from moca.data.prepare import prepare_ade20k, prepare_cityscapes
    from moca.data.voc import prepare_voc
    from moca.pretrain.data.shards.packing import parse_size
    from moca.pretrain.data.shards.storage import names_shards

    if args.command == 'check' and names_shards(args.config):
        check_shards(args.config)
        return
    if args.command == 'check':
        check(args)
        return
    if args.command == 'shards':
        pack(args.root, args.out, parse_size(args.size))
        return
    if not args.root.is_dir():
        raise UserError(f'{args.root}: no such folder.')
    if args.command == 'cityscapes':
        report(args.root, prepare_cityscapes(args.root, watch))
    elif args.command == 'voc':
        report(*prepare_voc(args.root, args.sbd, watch))
    else:
        report(*prepare_ade20k(args.root))


def watch(items: Iterable[Any], count: int, title: str) -> Iterable[Any]:
    """Show the progress of an iteration."""
    return track(items, title, total=count, console=CONSOLE) if count else items


def report(root: Path, parts: Sequence[Prepared]) -> None:
    """Print what is there, and what an incomplete download lacks."""
    table = Table('data', 'images', 'made now')
    for part in parts:
        whole = part.images == part.published
        count = str(part.images) if whole else f'[yellow]{part.images} of {part.published}'
        table.add_row(part.split, count, str(part.made))
    CONSOLE.print(table)
    CONSOLE.print(f'Ready: --data-root {root}', markup=False, soft_wrap=True)


def pack(root: Path, out: Path, size: int) -> None:
    """Write shards, and print what they are."""
    from moca.pretrain.data.shards.writer import write_shards

    made = write_shards(root, out, size, watch)
    table = Table('images', 'shards', 'made now', 'bytes', 'classes')
    counts = (made.images, made.shards, made.made, made.size, made.classes)
    table.add_row(*(f'{count:,}' for count in counts))
    CONSOLE.print(table)
    if made.left_out:
        CONSOLE.print(made.left_out, markup=False, soft_wrap=True)
    if made.renamed:
        CONSOLE.print(
            f'{made.renamed:,} keys are not the names of their files: a key has no dots, and is '
            'of one image.'
        )
    CONSOLE.print(f'Ready: --data-root {out}', markup=False, soft_wrap=True)


def check_shards(root: str) -> None:
    """Verify checksums, decode every image, print what is there, and fail if anything is wrong."""
    from moca.data import report as data_report
    from moca.pretrain.data.shards.verify import verify_shards

    found, missing = verify_shards(root, watch)
    faults = [f'{name}: this shard is in the manifest and not there' for name in missing]
    faults += [fault for shard in found for fault in shard.faults]
    table = Table('shards', 'images', 'bytes', 'with a checksum', 'faults')
    sums = len(found), sum(s.images for s in found), sum(s.size for s in found)
    counts = (*sums, sum(shard.hashed for shard in found), len(faults))
    table.add_row(*(f'{count:,}' for count in counts))
    CONSOLE.print(table)
    data_report.print_notes(root, [], faults, CONSOLE)
    _fail_on(faults)


def check(args: argparse.Namespace) -> None:
    """Look at every file, print what is there, draw some of it, and fail if anything is wrong."""
    from moca.engine.cli import read_config
    from moca.transfer.overrides import set_data_root

    cfg = read_config(args.config)
    if args.data_root:
        set_data_root(cfg, args.data_root)
    config = Path(args.config)
    # many are called linear-bn, and one config serves many data
    data = [Path(args.data_root).resolve().name] if args.data_root else []
    name = '_'.join([config.absolute().parent.name, config.stem, *data]) + '.png'
    out = args.out or Path('work_dirs', 'data', name)
    faults, drawn = (
        _check_panoptic(cfg, out, args.count)
        or _check_coco(cfg, out, args.count)
        or _check_depth(cfg, out, args.count)
        or _check_pairs(cfg, out, args.count)
    )
    if drawn:
        CONSOLE.print(f'Written: {out}', markup=False, soft_wrap=True)
    _fail_on(faults)


def _fail_on(faults: Sequence[str]) -> None:
    if faults:
        several = f'{len(faults)} faults, of which the first is ' if len(faults) > 1 else ''
        raise UserError(f'{several}{faults[0]}')


def _check_panoptic(cfg: Config, out: Path, count: int) -> tuple[list[str], bool] | None:
    """Return the faults, and whether a sheet was drawn; None without panoptic data."""
    from moca.data import panoptic_survey

    if not panoptic_survey.panoptic_datasets(cfg):
        return None
    surveys = panoptic_survey.panoptic_survey(cfg, watch)
    panoptic_survey.show(surveys, CONSOLE)
    faults = [fault for found in surveys for fault in found.faults]
    return faults, panoptic_survey.sheet(surveys, out, count)


def _check_coco(cfg: Config, out: Path, count: int) -> tuple[list[str], bool] | None:
    """Return the faults, and whether a sheet was drawn; None if there are no data sets of COCO."""
    from moca.data import coco_report
    from moca.data.coco_survey import coco_datasets, coco_survey

    if not any(coco_datasets(cfg)):
        return None
    surveys = coco_survey(cfg, watch)
    coco_report.show(surveys, CONSOLE)
    faults = [fault for found in surveys for fault in found.faults]
    return faults, coco_report.sheet(surveys, out, count)


def _check_depth(cfg: Config, out: Path, count: int) -> tuple[list[str], bool] | None:
    """Return the faults, and whether a sheet was drawn; None if there are no depth maps."""
    from moca.data import depth_survey
    from moca.data.config_datasets import depth_datasets

    if not any(depth_datasets(cfg)):
        return None
    surveys = depth_survey.depth_survey(cfg, watch)
    depth_survey.show(surveys, CONSOLE)
    faults = [fault for found in surveys for fault in found.faults]
    return faults, depth_survey.sheet(surveys, out, count)


def _check_pairs(cfg: Config, out: Path, count: int) -> tuple[list[str], bool]:
    from moca.data import report as data_report
    from moca.data.config_datasets import segmentation_datasets
    from moca.data.survey import survey
    from moca.transfer.protocol import check_segmentation

    if any(segmentation_datasets(cfg)) and cfg.get('model'):
        check_segmentation(cfg)
    surveys = survey(cfg, watch)
    data_report.show(surveys, CONSOLE)
    faults = [fault for found in surveys for fault in found.faults]
    return faults, data_report.sheet(surveys, out, count)


if __name__ == '__main__':
    sys.exit(main())
