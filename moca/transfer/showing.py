"""Drawing and keeping what a test predicts, by mmseg's and mmdet's own hooks and metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from moca.errors import UserError
from moca.transfer.inferencers import VISUALIZERS, local_visualizer
from moca.transfer.predictions import set_predictions

_LIBRARY = {'segmentation': 'mmseg', 'depth': 'mmseg', 'detection': 'mmdet'}


def set_visualizer(cfg: Config, option: str) -> str:
    """Give a config the visualizer of its library; returns which library that is.

    Args:
        cfg: of a downstream protocol; changed.
        option: of the command line, for messages.

    Raises:
        UserError: neither library draws what it predicts.
    """
    library = _LIBRARY.get(cfg.protocol.task)
    if library is None:
        raise UserError(
            f'{option}: draws segments, boxes and depth, and {cfg.protocol.name} has none. '
            'Leave it out.'
        )
    cfg.visualizer = ConfigDict(local_visualizer(cfg, VISUALIZERS[library]))
    return library


def set_show(cfg: Config, folder: str | Path) -> None:
    """Have a test draw each image with its prediction, the truth beside it, into a folder.

    mmseg numbers the images; mmdet keeps their names.

    Args:
        cfg: ready to be tested; changed.
        folder: where images go.

    Raises:
        UserError: neither library draws what it predicts.
    """
    folder = Path(folder).resolve()
    if set_visualizer(cfg, '--show-dir') == 'mmseg':
        hook: dict[str, Any] = dict(type='mmseg.SegVisualizationHook', draw=True, interval=1)
        cfg.visualizer.vis_backends = [  # of the test alone; metrics go there as well
            dict(type='mmengine.LocalVisBackend', save_dir=str(folder), img_save_dir='.')
        ]
    else:
        hook = dict(type='mmdet.DetVisualizationHook', draw=True, test_out_dir=str(folder))
    cfg.default_hooks.visualization = hook


def set_out(cfg: Config, out: str | Path) -> None:
    """Have a test keep its predictions.

    Args:
        cfg: ready to be tested; changed.
        out: a file that ends in ``.pkl``, for a list of mm's data samples as dicts (masks of
            detectors run-length encoded); of segmentors also a folder, for label maps in the
            values of the data set's own.

    Raises:
        UserError: it is neither.
    """
    task, found = cfg.protocol.task, cfg.get('test_evaluator') or []
    metrics = list(found) if isinstance(found, list | tuple) else [found]
    if str(out).endswith(('.pkl', '.pickle')):
        kind = 'mmdet.DumpDetResults' if task == 'detection' else 'mmengine.DumpResults'
        cfg.test_evaluator = [*metrics, dict(type=kind, out_file_path=str(out))]
        return
    places = [m for m in metrics if str(m.get('type')).endswith('IoUMetric')]
    if Path(out).suffix or not places:
        raise UserError(
            f'--out {out}: name a file that ends in .pkl'
            + (', or a folder for label maps.' if places else '.')
        )
    for metric in places:
        metric['output_dir'] = str(out)
    set_predictions(cfg, ['test'])
