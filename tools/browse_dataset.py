"""Draw images of a config's data set with their labels, as training gets them: cut, turned, mixed.

tools/prepare_data.py check looks at the files themselves, and finds what is wrong with them.

Examples:
    python tools/browse_dataset.py configs/segmentation/driving/linear-bn.py \\
        --data-root data/driving --out browse
    python tools/browse_dataset.py configs/detection/own-coco/mask-rcnn_sfp.py \\
        --data-root data/coco --split val --count 20 --out browse
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from moca.command_line import add_cfg_options, add_protocol_arguments, add_verbose
from moca.errors import UserError


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_protocol_arguments(parser)
    parser.add_argument('--split', default='train', choices=['train', 'val', 'test'])
    parser.add_argument('--count', type=int, default=10, help='how many images [10]')
    parser.add_argument(
        '--out', type=Path, required=True, metavar='DIR', help='where images are written'
    )
    add_cfg_options(parser)
    add_verbose(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the first images of a split."""
    args = parse_args(argv)
    from moca.engine.cli import main_guard  # takes seconds, which --help need not
    from moca.engine.terminal import quietly

    return main_guard(quietly(browse))(args)


def browse(args: argparse.Namespace) -> None:
    """Draw what the arguments ask for."""
    from mmengine.registry import DATASETS, VISUALIZERS, init_default_scope
    from rich.progress import track

    from moca.transfer.run import protocol_config
    from moca.transfer.showing import set_visualizer

    if args.count < 1:
        raise UserError(f'--count {args.count}: at least one image.')
    cfg = protocol_config(args)
    set_visualizer(cfg, args.config)
    if not cfg.get(f'{args.split}_dataloader'):
        raise UserError(f'--split {args.split}: {args.config} has no {args.split}_dataloader.')
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    dataset = DATASETS.build(cfg[f'{args.split}_dataloader'].dataset)
    visualizer = VISUALIZERS.build({**cfg.visualizer, 'name': 'browse', 'vis_backends': None})
    visualizer.dataset_meta = dataset.metainfo
    count = min(args.count, len(dataset))
    for number in track(range(count), 'drawing'):
        item = dataset[number]
        name = Path(item['data_samples'].img_path).stem
        _draw(visualizer, item, args.out / f'{number:05d}_{name}.png')
    print(f'Written: {count} of {len(dataset)} images of {args.split} to {args.out}')


def _draw(visualizer: Any, item: dict[str, Any], path: Path) -> None:
    from mmdet.structures.bbox import BaseBoxes

    image = item['inputs'].permute(1, 2, 0).numpy()[..., ::-1]  # of mm's pipelines, BGR
    sample = item['data_samples'].numpy()
    boxes = getattr(sample.get('gt_instances'), 'bboxes', None)
    if isinstance(boxes, BaseBoxes):  # which mmdet's drawing does not take
        sample.gt_instances.bboxes = boxes.tensor
    path.parent.mkdir(parents=True, exist_ok=True)
    visualizer.add_datasample(
        path.stem, np.ascontiguousarray(image), sample, draw_pred=False, out_file=str(path)
    )


if __name__ == '__main__':
    sys.exit(main())
