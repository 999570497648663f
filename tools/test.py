"""Evaluate a finished or interrupted run's checkpoint on the test set of its config.

A protocol that trains nothing takes any backbone's checkpoint, as in tools/train.py.
Others may have trained a classifier of images, a fine-tuned file or a linear head with --backbone,
or a mask transformer (EoMT), whole or as differences with --delta-of.

Example:
    python tools/test.py RUN/linear.py RUN/iter_80000.pth
    python tools/test.py configs/imagenet/finetune-mae.py mae_finetuned_vit_base.pth \\
        --data-root IMAGENET
    python tools/test.py configs/segmentation/ade20k/eomt.py ade20k_semantic_eomt_large_512.bin \\
        --arch auto --data-root ADE
    python tools/test.py configs/imagenet/finetune.py RUN/epoch_100.pth \\
        --variant imagenet-r --data-root IMAGENET-R
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from mmengine.config import Config
from rich.console import Console
from rich.table import Table

from moca.command_line import (
    add_change_arguments,
    add_common_arguments,
    add_protocol_arguments,
)
from moca.errors import UserError


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_protocol_arguments(parser)
    parser.add_argument(
        'checkpoint',
        metavar='RUN_CHECKPOINT',
        help='checkpoint that tools/train.py wrote, or its work dir',
    )
    parser.add_argument(
        '--tta',
        action='store_true',
        help='test-time augmentation: scales and flips as in `tta` of CONFIG',
    )
    parser.add_argument(
        '--backbone', metavar='CKPT', help='ViT that a published linear head stands on'
    )
    parser.add_argument(
        '--variant',
        metavar='SET',
        help='test a classifier of ImageNet on imagenet-a, -r, -sketch or -v2, which --data-root '
        'holds, or on the labels of imagenet-real',
    )
    parser.add_argument(
        '--show-dir', metavar='DIR', help='draw predictions beside the truth, an image each, there'
    )
    parser.add_argument(
        '--out',
        metavar='FILE',
        help='keep predictions: a .pkl of data samples; of a segmentor also a folder of label maps',
    )
    add_change_arguments(parser)
    add_common_arguments(parser, resume=False)
    return parser.parse_args(argv)


def written(cfg: Config) -> str:
    """Say where evaluators with ``format_only`` have written predictions."""
    from moca.data.config_datasets import nested_dicts

    fields = ('outfile_prefix', 'output_dir')  # of mmdet's and of mmseg's
    places = [
        str(node[field])
        for node in nested_dicts(cfg.test_evaluator)
        for field in fields
        if node.get(field)
    ]
    return f'Predictions are in {", ".join(places)}*' if places else 'Predictions were not kept.'


def main(argv: Sequence[str] | None = None) -> int:
    """Check everything, evaluate, and print the metrics in percent."""
    args = parse_args(argv)
    from moca.engine.cli import main_guard  # takes seconds, which --help need not

    return main_guard(run)(args)


def run(args: argparse.Namespace) -> None:
    """Do what the arguments ask for."""
    from moca.checkpoints.containers import file_of_run
    from moca.engine.distributed import launched_rank
    from moca.engine.meeting import join
    from moca.engine.terminal import quiet_terminal
    from moca.evaluation import run as measured
    from moca.records.run_json import read_record
    from moca.transfer.evaluate import evaluate, prepare_test
    from moca.transfer.showing import set_out, set_show

    with quiet_terminal(args.verbose, launched_rank(args.launcher)):
        join(args.launcher, 'test.py')
        args.checkpoint = file_of_run(args.checkpoint)
        if measured.is_evaluation(args.config):
            if args.show_dir or args.out:
                raise UserError(
                    f'--show-dir and --out: {args.config} trains nothing; tools/visualize.py '
                    'draws it.'
                )
            metrics = read_record(measured.evaluate(*measured.prepare_evaluation(args)))['metrics']
        else:
            cfg = prepare_test(args)
            if args.out:
                set_out(cfg, args.out)
            if args.show_dir:
                set_show(cfg, args.show_dir)
            metrics = evaluate(cfg, args.checkpoint)
    if not metrics:
        Console().print(f'Nothing was evaluated. {written(cfg)}', markup=False, soft_wrap=True)
        return
    table = Table('metric', 'value')
    for name, value in metrics.items():
        table.add_row(name, '-' if value is None else f'{value:.2f}')
    Console().print(table)


if __name__ == '__main__':
    sys.exit(main())
