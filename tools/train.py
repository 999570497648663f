"""Run a protocol on a checkpoint of any family, or on random weights: train, or only measure.

Everything goes to --work-dir, else to work_dirs/PROTOCOL/CHECKPOINT_ARCH_seedN. Features of k-NN,
low-shot and cached linear probes are kept for each other in work_dirs/features, or in features of a
--work-dir that is outside of work_dirs (another folder: --cfg-options loading.cache=DIR; of linear
probes default_hooks.features.folder=DIR).

Example:
    python tools/train.py configs/segmentation/cityscapes/linear.py --checkpoint moca.pth --amp
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from moca.command_line import (
    EMA_MOMENTUM,
    add_change_arguments,
    add_common_arguments,
    add_log_to,
    add_protocol_arguments,
    seed_number,
)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_protocol_arguments(parser)
    parser.add_argument(
        '--checkpoint', metavar='CKPT', help='load backbone weights from CKPT [random]'
    )
    parser.add_argument(
        '--branch', choices=['teacher', 'student'], help='encoder of CKPT to take where it has both'
    )
    parser.add_argument(
        '--prefix', help='what stands before the keys of the encoder, where CKPT holds several'
    )
    add_change_arguments(parser)
    parser.add_argument('--name', metavar='LABEL', help='name of CKPT in the leaderboard')
    parser.add_argument('--trust', action='store_true', help='read CKPT with plain pickle')
    parser.add_argument(
        '--grid',
        nargs=2,
        type=int,
        metavar=('ROWS', 'COLUMNS'),
        help="grid of CKPT's position embedding, where it is not square",
    )
    parser.add_argument(
        '--subset',
        type=int,
        metavar='N',
        help='train on N images, the published subset number SEED modulo 5, for as many epochs',
    )
    parser.add_argument(
        '--held-out',
        type=float,
        metavar='SHARE',
        help='validate on a share of the training images, to choose settings on, such as 0.1',
    )
    parser.add_argument('--note', metavar='TEXT', help='remark for run.json and the leaderboard')
    parser.add_argument(
        '--epochs',
        type=int,
        choices=[12, 25, 50, 100],
        help="length of ViTDet's recipes [100]; others have train_cfg.max_iters",
    )
    parser.add_argument('--seed', type=seed_number, help='seed of all random numbers [0]')
    parser.add_argument(
        '--auto-scale-lr', action='store_true', help="scale lr by batch over the recipe's batch"
    )
    parser.add_argument(
        '--ema',
        nargs='?',
        const=EMA_MOMENTUM,
        type=float,
        metavar='MOMENTUM',
        help='validate and save a moving average of the weights '
        f'[{EMA_MOMENTUM} where none is named]',
    )
    add_log_to(parser)
    add_common_arguments(parser, work_dir='work_dirs/PROTOCOL/CHECKPOINT_ARCH_seedN')
    args = parser.parse_args(argv)
    args.given = sys.argv[1:] if argv is None else list(argv)  # for the record
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Check everything, train and validate, or measure, and write ``run.json``."""
    args = parse_args(argv)
    from moca.engine.cli import main_guard  # takes seconds, which --help need not

    return main_guard(run)(args)


def run(args: argparse.Namespace) -> None:
    """Do what the arguments ask for."""
    from moca.checkpoints.containers import file_of_run
    from moca.engine.distributed import launched_rank
    from moca.engine.meeting import join
    from moca.engine.terminal import quiet_terminal
    from moca.evaluation.run import evaluate, is_evaluation, prepare_evaluation
    from moca.transfer.run import prepare_training, train

    with quiet_terminal(args.verbose, launched_rank(args.launcher)):
        join(args.launcher, 'train.py')
        if args.checkpoint:
            args.checkpoint = file_of_run(args.checkpoint)
        if is_evaluation(args.config):
            evaluate(*prepare_evaluation(args))
        else:
            train(*prepare_training(args))


if __name__ == '__main__':
    sys.exit(main())
