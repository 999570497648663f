"""Count a model's parameters and what one image costs, by mmengine's counter.

A multiply with its add counts once, as everywhere in OpenMMLab (twice that is what others call
FLOPs). What is counted is the prediction of one image: of a segmentor with windows, of one window.

Examples:
    python tools/get_flops.py configs/segmentation/ade20k/linear-bn.py
    python tools/get_flops.py configs/detection/coco/mask-rcnn_sfp.py --arch vit_small_patch16
    python tools/get_flops.py configs/segmentation/ade20k/upernet.py --shape 640 640
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING
from unittest import mock

from moca.command_line import add_cfg_options, add_protocol_arguments, add_verbose
from moca.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_protocol_arguments(parser)
    parser.add_argument(
        '--shape',
        nargs=2,
        type=int,
        metavar=('HEIGHT', 'WIDTH'),
        help='of the image in pixels [a window, or what images are resized to in tests]',
    )
    parser.add_argument('--table', action='store_true', help='say it of each part as well')
    add_cfg_options(parser)
    add_verbose(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Count, and print the numbers."""
    args = parse_args(argv)
    from moca.engine.cli import main_guard  # takes seconds, which --help need not
    from moca.engine.terminal import quietly

    return main_guard(quietly(count))(args)


def count(args: argparse.Namespace) -> None:
    """Count what the arguments ask for."""
    import torch
    from mmengine.analysis import FlopAnalyzer, parameter_count
    from mmengine.analysis.print_helper import complexity_stats_table
    from mmengine.registry import MODELS, init_default_scope

    from moca.checkpoints.loading import AUTO
    from moca.export.command import default_size, graph_of
    from moca.transfer.run import protocol_config

    if args.arch == AUTO:
        raise UserError(f'--arch {AUTO}: there is no checkpoint here to take it of. Give a name.')
    cfg = protocol_config(args)
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    cfg.model.backbone.init_cfg = None  # weights change no number
    model = MODELS.build(cfg.model).eval()
    size = tuple(args.shape) if args.shape else default_size(model, cfg)
    graph = graph_of(model, (size[0], size[1]))
    inputs = tuple(value[:1] if value.ndim == 4 else value for value in graph.inputs())
    plain = mock.patch('torch.nn.functional.scaled_dot_product_attention', _plain_attention)
    counter = FlopAnalyzer(graph, inputs)
    counter.unsupported_ops_warnings(args.verbose).uncalled_modules_warnings(args.verbose)
    with torch.no_grad(), plain:
        total = counter.total()
        if args.table:
            print(complexity_stats_table(counter, show_param_shapes=True))
        passed = {name.split('::')[-1] for name in counter.unsupported_ops()}
    print(f'Image: {size[0]} x {size[1]} (height x width)')
    print(f'Multiply-adds: {_shown(total)}')
    print(f'Parameters: {_shown(parameter_count(graph)[""])}')
    if passed:
        print(f'Counted as nothing: {", ".join(sorted(passed))}.')


def _shown(number: float) -> str:
    """A number with the largest unit that it has one of.

    Example:
        >>> _shown(86_073_000_000), _shown(950)
        ('86.073G', '950')
    """
    for unit, letter in ((1e12, 'T'), (1e9, 'G'), (1e6, 'M'), (1e3, 'K')):
        if number >= unit:
            return f'{number / unit:.3f}{letter}'
    return str(number)


def _plain_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """Attention by its two products, which the counter knows; it passes over the fused kernel."""
    scores = query @ key.transpose(-2, -1) * (scale or query.shape[-1] ** -0.5)
    if attn_mask is not None:
        booleans = not attn_mask.is_floating_point()
        scores = scores.masked_fill(~attn_mask, -float('inf')) if booleans else scores + attn_mask
    return scores.softmax(-1) @ value


if __name__ == '__main__':
    sys.exit(main())
