"""Pre-train a ViT without labels."""

from __future__ import annotations

import argparse
import sys

from mmengine.config import Config
from mmengine.runner import Runner

import moca  # noqa: F401  (registers the components)
from moca.backbone import vit_dimensions
from moca.engine.config_check import check_config
from moca.engine.launch import (
    add_common_arguments,
    apply_common,
    main_guard,
    merge_options,
    read_config,
)
from moca.pretrain.released import accept_released


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='such as configs/pretrain/moca_v1p0.py')
    parser.add_argument('--data-root', help='folder of pictures, searched recursively')
    parser.add_argument('--arch', help='timm name of the ViT, such as vit_small_patch16')
    parser.add_argument('--seed', type=int, help='of all random numbers [0]')
    add_common_arguments(parser)
    return parser.parse_args(arguments)


def configure(args: argparse.Namespace) -> Config:
    """The config of the run, checked."""
    cfg = read_config(args.config)
    if args.data_root:
        cfg.train_dataloader.dataset.data_root = args.data_root
    if args.arch:
        cfg.model.backbone.arch = args.arch
    if args.seed is not None:
        cfg.setdefault('randomness', {})['seed'] = args.seed
    merge_options(cfg, args.cfg_options)  # last, so that they win
    check_config(cfg, source=args.config)
    vit_dimensions(cfg.model.backbone.arch)  # an unknown name is an error here and now
    apply_common(cfg, args)
    accept_released(cfg)
    return cfg


@main_guard
def main(arguments: list[str] | None = None) -> None:
    """Pre-train as the command line says."""
    Runner.from_cfg(configure(parse_args(arguments))).train()


if __name__ == '__main__':
    sys.exit(main())
