"""Measure the speed of parts of the suite, beside the usual way to do the same, in one run.

Example:
    python -m tools.benchmarks views --data photos/
    python -m tools.benchmarks shards --data photos/
    python -m tools.benchmarks pretrain configs/pretrain/moca_v1p0.py --batch-size 8
    python -m tools.benchmarks slide configs/segmentation/ade20k/upernet.py --size 512 683
    python -m tools.benchmarks segmentor configs/segmentation/ade20k/upernet.py --batch-size 2
    python -m tools.benchmarks detector configs/detection/coco/vitdet_mask-rcnn.py --size 1024
    python -m tools.benchmarks rope --arch vit_small_patch16
    python -m tools.benchmarks eomt semantic instance --arch vit_small_patch16 --size 512
    python -m tools.benchmarks extraction --data photos/
    python -m tools.benchmarks neighbors --rows 100000 --queries 100000
    python -m tools.benchmarks saving configs/pretrain/moca_v1p0.py --folder /mnt/scratch
    python -m tools.benchmarks logging --steps 125000
    python -m tools.benchmarks traffic configs/pretrain/moca_v1p0.py --seconds 0.181
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import torch
from mmengine.device import get_device

import moca.pretrain  # noqa: F401  (registers the components)
from moca.engine.amp import gpu_has_bfloat16
from moca.engine.cli import add_cfg_options, main_guard, merge_options, read_config
from moca.errors import UserError
from moca.transfer.run import add_protocol_arguments, protocol_config
from tools.benchmarks.around_step import measure_logging, measure_saving
from tools.benchmarks.detector import measure_detector
from tools.benchmarks.eomt import HEADING, PAIRS, measure_eomt
from tools.benchmarks.extraction import measure_extraction
from tools.benchmarks.neighbors import measure_neighbors
from tools.benchmarks.pretrain_step import DTYPES, measure_step
from tools.benchmarks.rope import measure_rope
from tools.benchmarks.segmentor import measure_training
from tools.benchmarks.shards import measure_shards
from tools.benchmarks.slide import Workload, measure_slide
from tools.benchmarks.traffic import config_exchanges, describe, waiting
from tools.benchmarks.views import measure_views


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(title='what to measure', required=True)
    add_views(commands)
    add_shards(commands)
    add_pretrain(commands)
    add_slide(commands)
    add_segmentor(commands)
    add_detector(commands)
    add_rope(commands)
    add_eomt(commands)
    add_extraction(commands)
    add_neighbors(commands)
    add_saving(commands)
    add_logging(commands)
    add_traffic(commands)
    return parser.parse_args(argv)


def add_views(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command ``views``."""
    parser = commands.add_parser(
        'views', help='pairs of views per second of one core, beside torchvision on PIL images'
    )
    parser.add_argument('--data', metavar='DIR', help='a folder of images [made for the purpose]')
    parser.add_argument('--seconds', type=float, default=10, help='of CPU time in all [10]')
    parser.add_argument('--size', type=int, default=224, help='of the views in pixels [224]')
    parser.set_defaults(run=run_views)


def run_views(args: argparse.Namespace) -> None:
    """Print the speed of both recipes and their ratio."""
    speed = measure_views(args.data, args.seconds, args.size)
    source = args.data or 'generated JPEGs of 500 x 375'
    print(f'{speed.pairs} pairs of {args.size} px views each, {speed.images} images ({source})')
    print('from file to tensors, one decode a pair, one thread; pairs per CPU second:')
    print(f'  torchvision/PIL {speed.torchvision:8.1f}')
    print(f'  ours            {speed.ours:8.1f}')
    print(f'  ratio           {speed.ratio:8.2f}')


def add_shards(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command ``shards``."""
    parser = commands.add_parser(
        'shards', help='training images out of tar shards, beside the same images as files'
    )
    parser.add_argument('--data', metavar='DIR', help='a folder of images [made for the purpose]')
    parser.add_argument('--seconds', type=float, default=20, help='of CPU time in all [20]')
    parser.add_argument('--size', type=int, default=224, help='of the views in pixels [224]')
    parser.set_defaults(run=run_shards)


def run_shards(args: argparse.Namespace) -> None:
    """Print the speed of both and their ratio."""
    speed = measure_shards(args.data, args.seconds, args.size)
    source = args.data or 'generated JPEGs of 500 x 375'
    print(f'{speed.images} images ({source}), as files and in {speed.shards} shards')
    print(f'pairs of {args.size} px views per CPU second of one thread, {speed.samples} of each:')
    for name, views, read, ready in zip(
        ('files', 'shards'), speed.views, speed.reading, speed.opening, strict=True
    ):
        print(
            f'  {name:10}{views:8.1f}; {1e6 * read:.0f} us to read an image, {ready:.2f} s until '
            'the data set is ready'
        )
    print(f'  ratio     {speed.ratio:8.2f}')


def add_extraction(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command ``extraction``."""
    parser = commands.add_parser(
        'extraction', help="features of images, beside a plain loop over torchvision's ImageFolder"
    )
    parser.add_argument('--data', metavar='DIR', help='a folder of images [made for the purpose]')
    parser.add_argument('--seconds', type=float, default=20, help='of CPU time in all [20]')
    parser.add_argument('--size', type=int, default=224, help='of the model in pixels [224]')
    parser.add_argument('--arch', default='vit_small_patch16', help='timm name [%(default)s]')
    parser.add_argument('--interpolation', choices=['bicubic', 'bilinear'], default='bicubic')
    parser.set_defaults(run=run_extraction)


def run_extraction(args: argparse.Namespace) -> None:
    """Print the time of both ways, their ratios and the share of decoding."""
    speed = measure_extraction(args.data, args.seconds, args.size, args.arch, args.interpolation)
    source = args.data or 'generated JPEGs of 500 x 375'
    print(f'{speed.looked} images of {speed.images} ({source}), {args.arch} at {args.size} px')
    print(f'pixels {"equal bit for bit" if speed.equal else "NOT equal"}; CPU ms an image:')
    print(
        f'  torchvision {1e3 * speed.plain_reading:8.2f} + backbone {1e3 * speed.plain_forward:.2f}'
    )
    print(
        f'  ours        {1e3 * (speed.decoding + speed.cutting):8.2f} + backbone '
        f'{1e3 * speed.forward:.2f}; decoding {1e3 * speed.decoding:.2f}, which is '
        f'{100 * speed.decoding_share:.0f} % of all'
    )
    print(f'  ratio       {speed.ratio_of_reading:8.2f}, with the backbone {speed.ratio:.2f}')


def add_neighbors(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command ``neighbors``."""
    parser = commands.add_parser(
        'neighbors', help='time and memory of exact neighbors in a bank that comes in parts'
    )
    parser.add_argument('--rows', type=int, default=20000, help='of the bank [20000]')
    parser.add_argument('--queries', type=int, default=20000, help='[20000]')
    parser.add_argument('--width', type=int, default=768, help='of features [768]')
    parser.add_argument('--k', type=int, default=20, help='[20]')
    parser.add_argument('--device', default=get_device(), help='[the first GPU, else cpu]')
    parser.set_defaults(run=run_neighbors)


def run_neighbors(args: argparse.Namespace) -> None:
    """Print the time of both ways for a query, and what memory ours adds."""
    device = torch.device(args.device)
    speed = measure_neighbors(args.rows, args.queries, args.width, args.k, device)
    print(f'{args.queries:,} queries in {args.rows:,} rows of {args.width}, k {args.k}, {device}')
    print(f'  ours        {speed.seconds:8.1f} s ({speed.cpu_seconds:.1f} s of CPU), with the bank')
    print(f'  memory      {speed.added / 2**20:8.0f} MiB beyond queries and bank')
    ours, plain = speed.seconds / args.queries, speed.plain_seconds / speed.plain_queries
    print(f'  ratio       {plain / ours:8.2f} of a plain search in the whole bank at once')
    print(f'  similarities {"equal" if speed.equal else "NOT equal"}')


def add_pretrain(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command ``pretrain``."""
    parser = commands.add_parser(
        'pretrain',
        help='speed, memory and FLOPs of a training step, for MOCA beside a straightforward one',
    )
    parser.add_argument('config', help='such as configs/pretrain/moca_v1p0.py')
    parser.add_argument('--arch', help='timm name of the ViT, such as vit_small_patch16')
    parser.add_argument('--batch-size', type=int, default=8, help='images a step [8]')
    parser.add_argument('--steps', type=int, default=5, help='timed steps of each version [5]')
    parser.add_argument('--compile', action='store_true', help='ours through torch.compile')
    add_place(parser)
    add_cfg_options(parser)
    parser.set_defaults(run=run_pretrain)


def run_pretrain(args: argparse.Namespace) -> None:
    """Print the figures of the versions and their ratios."""
    cfg = read_config(args.config)
    if args.arch:
        cfg.model.backbone.arch = args.arch
    merge_options(cfg, args.cfg_options)
    where = args.dtype, torch.device(args.device)
    print(measure_step(cfg, args.batch_size, args.steps, *where, compiled=args.compile))


def add_slide(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command ``slide``."""
    parser = commands.add_parser(
        'slide', help="speed and memory of sliding-window inference beside mmseg's own"
    )
    add_protocol_arguments(parser)
    parser.add_argument('--checkpoint', metavar='RUN_CHECKPOINT', help='a file of tools/train.py')
    parser.add_argument('--images', type=int, default=4, help='of the test set or made up [4]')
    parser.add_argument(
        '--size',
        nargs=2,
        type=int,
        metavar=('HEIGHT', 'WIDTH'),
        help='make images up instead of taking those of the test set, whose mIoU is measured',
    )
    add_place(parser)
    add_cfg_options(parser)
    parser.set_defaults(run=run_slide)


def run_slide(args: argparse.Namespace) -> None:
    """Print the figures of the versions and their ratios."""
    size = tuple(args.size) if args.size else None
    work = Workload(args.images, size, args.dtype, torch.device(args.device))
    print(measure_slide(protocol_config(args), work, args.checkpoint))


def add_segmentor(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command ``segmentor``."""
    parser = commands.add_parser(
        'segmentor', help="speed and memory of a segmentor's training step beside mmseg's own"
    )
    add_protocol_arguments(parser)
    parser.add_argument('--batch-size', type=int, default=2, help='images a step [2]')
    parser.add_argument('--steps', type=int, default=5, help='timed steps of each version [5]')
    add_place(parser)
    add_cfg_options(parser)
    parser.set_defaults(run=run_segmentor)


def run_segmentor(args: argparse.Namespace) -> None:
    """Print the figures of the versions and their ratios; images are real with --data-root."""
    cfg, device = protocol_config(args), torch.device(args.device)
    print(
        measure_training(cfg, args.batch_size, args.steps, args.dtype, device, bool(args.data_root))
    )


def add_detector(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command ``detector``."""
    parser = commands.add_parser(
        'detector', help="speed and memory of a detector's training step beside a plain version"
    )
    add_protocol_arguments(parser)
    parser.add_argument('--size', type=int, default=1024, help='sides of the images [1024]')
    parser.add_argument('--batch-size', type=int, default=1, help='images a step [1]')
    parser.add_argument('--steps', type=int, default=5, help='timed steps of each version [5]')
    add_place(parser)
    add_cfg_options(parser)
    parser.set_defaults(run=run_detector)


def run_detector(args: argparse.Namespace) -> None:
    """Print the figures of the versions and their ratios; images are real with --data-root."""
    cfg, device, real = protocol_config(args), torch.device(args.device), bool(args.data_root)
    print(measure_detector(cfg, args.size, args.batch_size, args.steps, args.dtype, device, real))


def add_rope(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command ``rope``."""
    parser = commands.add_parser(
        'rope', help='speed of a training step with rotary positions beside learned ones'
    )
    parser.add_argument('--arch', default='vit_base_patch16', help='timm name [vit_base_patch16]')
    parser.add_argument(
        '--size', nargs='+', type=int, default=[224, 1024], help='sides of the images [224 1024]'
    )
    parser.add_argument('--batch-size', type=int, default=1, help='images a step [1]')
    parser.add_argument('--steps', type=int, default=5, help='timed steps of each version [5]')
    add_place(parser)
    parser.set_defaults(run=run_rope)


def run_rope(args: argparse.Namespace) -> None:
    """Print the seconds of both versions and their ratio at each size."""
    device = torch.device(args.device)
    print(f'{args.arch}, forward and backward, batch {args.batch_size}, {args.dtype}, {device}')
    print(f'{"images":>22}{"learned":>12}{"rotary":>13}{"ratio":>9}')
    for size in args.size:
        cost = measure_rope(args.arch, size, args.batch_size, args.steps, args.dtype, device)
        print(cost, flush=True)


def add_eomt(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command ``eomt``."""
    parser = commands.add_parser(
        'eomt', help='speed and memory of mask transformers beside UPerNet and Mask R-CNN'
    )
    parser.add_argument('tasks', nargs='+', choices=PAIRS, help='by which networks to compare')
    parser.add_argument('--arch', default='vit_base_patch16', help='timm name [vit_base_patch16]')
    parser.add_argument('--size', type=int, default=512, help='sides of the images [512]')
    parser.add_argument('--batch-size', type=int, default=1, help='images a turn [1]')
    parser.add_argument('--steps', type=int, default=5, help='timed turns of each network [5]')
    add_place(parser)
    parser.set_defaults(run=run_eomt)


def run_eomt(args: argparse.Namespace) -> None:
    """Print images/s and memory of both networks of each task, in training and inference."""
    device = torch.device(args.device)
    print(f'{args.arch}, {args.size} pixels, batch {args.batch_size}, {args.dtype}, {device}')
    print(HEADING)
    for task in args.tasks:
        numbers = args.size, args.batch_size, args.steps
        print(measure_eomt(task, args.arch, *numbers, args.dtype, device), flush=True)


def add_saving(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command ``saving``."""
    parser = commands.add_parser(
        'saving', help="how long training waits for a checkpoint, beside mmengine's hook"
    )
    parser.add_argument('config', help='such as configs/pretrain/moca_v1p0.py')
    parser.add_argument('--folder', help='where to write [a temporary folder]')
    parser.add_argument('--rounds', type=int, default=3, help='checkpoints of each [3]')
    parser.add_argument('--device', default=get_device(), help='[the first GPU, else cpu]')
    add_cfg_options(parser)
    parser.set_defaults(run=run_saving)


def run_saving(args: argparse.Namespace) -> None:
    """Print for how long training waits both ways."""
    cfg = read_config(args.config)
    merge_options(cfg, args.cfg_options)
    print(measure_saving(cfg, args.rounds, torch.device(args.device), args.folder))


def add_logging(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command ``logging``."""
    parser = commands.add_parser(
        'logging', help="what a step pays for its log late in a run, beside mmengine's histories"
    )
    parser.add_argument('--steps', type=int, default=125_000, help='that it has had [125000]')
    parser.set_defaults(run=lambda args: print(measure_logging(args.steps)))


def add_traffic(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command ``traffic``."""
    parser = commands.add_parser(
        'traffic', help='what a step sends between processes, and an estimate of the wait for it'
    )
    parser.add_argument('config', help='such as configs/pretrain/moca_v1p0.py')
    parser.add_argument('--arch', help='timm name of the ViT, such as vit_small_patch16')
    parser.add_argument('--batch-size', type=int, help="images a GPU [the config's]")
    parser.add_argument('--gpus', nargs='+', type=int, default=[8, 64, 512], help='[8 64 512]')
    parser.add_argument(
        '--network',
        nargs='+',
        type=float,
        default=[25, 100, 400],
        help='Gb/s of the slowest link between GPUs [25 100 400]',
    )
    parser.add_argument(
        '--seconds', type=float, required=True, help='that a step takes one GPU alone'
    )
    add_cfg_options(parser)
    parser.set_defaults(run=run_traffic)


def run_traffic(args: argparse.Namespace) -> None:
    """Print what is sent and which share of a step's time the network may take."""
    for name, numbers in (('--gpus', args.gpus), ('--network', args.network)):
        if min(numbers) < (2 if name == '--gpus' else 1):
            raise UserError(f'{name}: give numbers from {2 if name == "--gpus" else 1} up.')
    if args.seconds <= 0 or (args.batch_size or 1) < 1:
        raise UserError('--seconds and --batch-size: give numbers above 0.')
    cfg = read_config(args.config)
    if args.arch:
        cfg.model.backbone.arch = args.arch
    merge_options(cfg, args.cfg_options)
    batch = args.batch_size or cfg.train_dataloader.batch_size
    print(f'{cfg.model.type}, {cfg.model.backbone.arch}, {batch} images a GPU')
    print(describe(config_exchanges(cfg, batch, args.gpus[0]), args.gpus[0]))
    print(f'share of time that waits for the network (estimate; {1e3 * args.seconds:.0f} ms alone)')
    print(f'{"GPUs":>6}' + ''.join(f'{speed:10.0f} Gb/s' for speed in args.network))
    for gpus in args.gpus:
        found = config_exchanges(cfg, batch, gpus)
        waits = [waiting(found, gpus, speed, args.seconds) for speed in args.network]
        print(f'{gpus:6d}' + ''.join(f'{wait / (wait + args.seconds):15.1%}' for wait in waits))


def add_place(parser: argparse.ArgumentParser) -> None:
    """Add ``--dtype`` and ``--device``."""
    parser.add_argument(
        '--dtype',
        choices=DTYPES,
        default='bfloat16' if gpu_has_bfloat16() else 'float32',
        help='[bfloat16 on GPUs that have it, else float32, as tools/pretrain.py]',
    )
    parser.add_argument('--device', default=get_device(), help='[the first GPU, else cpu]')


@main_guard
def main(argv: Sequence[str] | None = None) -> None:
    """Run the chosen measurement."""
    args = parse_args(argv)
    args.run(args)


if __name__ == '__main__':
    sys.exit(main())
