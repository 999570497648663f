"""Pre-train a ViT without labels."""

from __future__ import annotations

import argparse
import sys

from mmengine.config import Config

from moca.command_line import (
    add_change_arguments,
    add_common_arguments,
    add_log_to,
    seed_number,
    whole_number,
)
from moca.errors import UserError


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='pre-training config, such as configs/pretrain/moca_v1p0.py')
    parser.add_argument(
        '--data-root',
        help='training images: a folder, searched recursively; or tar shards, by their folder, a '
        "range such as 'DIR/{000..123}.tar', or a URL of fsspec such as s3://BUCKET/DIR",
    )
    parser.add_argument(
        '--arch',
        help='timm name of the ViT, such as vit_small_patch16, or auto for that of CKPT '
        '[as in the config]',
    )
    parser.add_argument(
        '--img-size',
        type=whole_number(1),
        metavar='SIDE',
        help='pixels of the square views, padded to whole patches [as in the config, mostly 224]',
    )
    parser.add_argument(
        '--checkpoint', metavar='CKPT', help='start the encoder from a file of any family [random]'
    )
    parser.add_argument(
        '--branch', choices=('teacher', 'student'), help='encoder of CKPT to take [teacher]'
    )
    parser.add_argument(
        '--prefix', help='what stands before the keys of the encoder, where CKPT holds several'
    )
    add_change_arguments(parser)
    parser.add_argument('--trust', action='store_true', help='read CKPT with plain pickle')
    parser.add_argument('--epochs', type=int, help='train for EPOCHS; warm-up keeps its share')
    parser.add_argument(
        '--knn', metavar='DIR', help='measure k-NN accuracy on DIR/CLASS/IMAGE during training'
    )
    parser.add_argument(
        '--knn-val', metavar='DIR', help='images to classify [a held-out share of --knn]'
    )
    parser.add_argument(
        '--dense',
        nargs='+',
        default=(),
        metavar='CONFIG',
        help='segment labeled images without training, during training: configs such as '
        'configs/dense/in-context_driving.py and capi-knn_driving.py',
    )
    parser.add_argument('--dense-data', metavar='DIR', help='data of --dense [as in CONFIG]')
    parser.add_argument(
        '--features',
        nargs='?',
        const='',
        metavar='DIR',
        help='draw patch features of a few images of DIR [training images] during training',
    )
    add_log_to(parser)
    parser.add_argument('--seed', type=seed_number, help='seed of all random numbers [0]')
    parser.add_argument(
        '--compile',
        action=argparse.BooleanOptionalAction,
        help='compile transformer blocks and losses with torch.compile [on GPUs, if parameters are '
        'not sharded]',
    )
    parser.add_argument(
        '--gpu-views',
        action='store_true',
        help='change colors and blur on the GPU: for machines whose CPUs do not keep up',
    )
    parser.add_argument(
        '--fp8-teacher',
        action='store_true',
        help="multiply in 8 bits in the teacher's blocks, on GPUs that can (Ada, Hopper, later)",
    )
    parser.add_argument(
        '--bf16-gradients',
        action='store_true',
        help='send gradients between GPUs as bfloat16, in half of the bytes: for slow networks',
    )
    add_common_arguments(parser)
    return parser.parse_args(arguments)


def configure(args: argparse.Namespace) -> Config:
    """The config of the run, checked."""
    import moca.pretrain  # noqa: F401  (registers the components)
    from moca.backbone import vit_dimensions
    from moca.backbone.compile import can_compile
    from moca.checkpoints.changes import changes_of
    from moca.checkpoints.containers import file_of_run
    from moca.checkpoints.loading import AUTO, set_checkpoint
    from moca.engine.amp import gpu_has_bfloat16
    from moca.engine.backends import log_to
    from moca.engine.bf16_gradients import set_bf16_gradients
    from moca.engine.cli import apply_common, merge_options
    from moca.engine.config_check import check_config
    from moca.engine.hooks import set_hook
    from moca.pretrain.data.on_device import leave_colors_to_gpu
    from moca.pretrain.moca.released import accept_released
    from moca.pretrain.monitors.dense import add_dense_hooks
    from moca.pretrain.monitors.features import add_features_hook
    from moca.pretrain.training.config import pretraining_config, take_from_checkpoint
    from moca.pretrain.training.schedule import check_options

    cfg = pretraining_config(
        args.config,
        data_root=args.data_root,
        arch=args.arch,
        img_size=args.img_size,
        epochs=args.epochs,
        knn=args.knn,
        knn_val=args.knn_val,
        seed=args.seed,
    )
    changes = changes_of(args)
    if args.checkpoint:
        how = dict(branch=args.branch, trust=args.trust, prefix=args.prefix)
        args.checkpoint = file_of_run(args.checkpoint)
        set_checkpoint(cfg, args.checkpoint, **how, changes=changes)
    elif args.branch or args.trust or args.prefix or changes or args.arch == AUTO:
        raise UserError(
            '--branch, --prefix, --trust, --patch, --mean, --std, --delta-of and --arch auto '
            'describe a checkpoint: give --checkpoint as well.'
        )
    if args.dense:
        add_dense_hooks(cfg, args.dense, args.dense_data)
    elif args.dense_data:
        raise UserError('--dense-data needs --dense, what to measure on them.')
    if args.features is not None:
        add_features_hook(cfg, args.features or None)
    if args.gpu_views:
        leave_colors_to_gpu(cfg)
    log_to(cfg, args.log_to)
    if args.amp is None:
        args.amp = gpu_has_bfloat16()
    check_options(args.cfg_options)
    merge_options(cfg, args.cfg_options)  # last, so that they win
    check_config(cfg, source=args.config)
    if args.compile is None:
        args.compile = can_compile() and not cfg.get('strategy')
    if args.compile:
        set_hook(cfg, 'compile', type='CompileBlocks')
    if args.fp8_teacher:
        set_hook(cfg, 'fp8_teacher', type='Float8Teacher')
    if args.bf16_gradients:
        set_bf16_gradients(cfg, args.launcher)
    take_from_checkpoint(cfg, args.arch)
    vit_dimensions(cfg.model.backbone.arch)  # an unknown name is an error here and now
    apply_common(cfg, args)
    accept_released(cfg)
    return cfg


def main(arguments: list[str] | None = None) -> int:
    """Pre-train as the command line says."""
    args = parse_args(arguments)
    from moca.engine.cli import main_guard  # takes seconds, which --help need not

    return main_guard(run)(args)


def run(args: argparse.Namespace) -> None:
    """Do what the arguments ask for."""
    from moca.engine.distributed import launched_rank
    from moca.engine.fsdp import runner_of
    from moca.engine.interrupts import saved_when_interrupted
    from moca.engine.meeting import join
    from moca.engine.same_run import check_same_start
    from moca.engine.terminal import SayWhatRuns, quiet_terminal
    from moca.engine.work_dir import alone_in_work_dir, check_unused
    from moca.pretrain.training.check import check_run
    from moca.pretrain.training.resumed import check_resumed

    with quiet_terminal(args.verbose, launched_rank(args.launcher)):
        join(args.launcher, 'pretrain.py')
        cfg = configure(args)
        check_run(cfg)
        check_resumed(cfg)
        check_same_start(cfg)
        with alone_in_work_dir(cfg):
            check_unused(cfg)
            runner = runner_of(cfg)
            runner.register_hook(SayWhatRuns())
            with saved_when_interrupted(runner):
                runner.train()
            runner.logger.info(f'Finished: {cfg.work_dir}')


if __name__ == '__main__':
    sys.exit(main())
