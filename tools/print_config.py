"""Print a config with its bases merged and ``--cfg-options`` applied.

Example:
    python tools/print_config.py configs/pretrain/moca_v0p9.py
    python tools/print_config.py configs/segmentation/ade20k/upernet.py \\
        --cfg-options train_dataloader.batch_size=4 > merged.py
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from moca.command_line import add_cfg_options


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='any file of configs/, or your own')
    add_cfg_options(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the config; a field that its class does not take is an error, as in a run."""
    args = parse_args(argv)
    from moca.engine.cli import main_guard  # takes seconds, which --help need not

    return main_guard(show)(args)


def show(args: argparse.Namespace) -> None:
    """Read the config with all components known, and print it."""
    import moca.pretrain  # noqa: F401  (registers the components)
    from moca.engine.cli import read_config

    print(read_config(args.config, args.cfg_options).pretty_text, end='')


if __name__ == '__main__':
    sys.exit(main())
