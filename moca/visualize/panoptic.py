"""The sheet of tools/visualize.py that shows the panoptic segments of finished runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.structures import INSTANCE_OFFSET

from moca import figures
from moca.detection.panoptic_drawing import color_segments
from moca.detection.panoptic_file import read_ids
from moca.errors import UserError
from moca.transfer.finished import FinishedRun, load_finished
from moca.visualize.predictions import heading_of, prediction_rows, sources_of


def panoptic_sheet(
    folders: Sequence[Path], out: Path, count: int, folder: Path | None = None
) -> None:
    """Draw images, their true segments, and those of several runs.

    Args:
        folders: Work dirs of runs of panoptic segmentation.
        out: Image to write.
        count: How many images.
        folder: Of images without labels, instead of the validation set; then there is no truth.

    Raises:
        UserError: Runs cannot be read or compared, or images not be found.
    """
    runs = [load_finished(path, 'detection') for path in folders]
    for path, finished in zip(folders, runs, strict=True):
        if not finished.cfg.model.get('test_cfg', {}).get('panoptic_on'):
            raise UserError(f'{path}: not of panoptic segmentation; see visualize.py detection.')
    sources = sources_of(runs, count, folder)
    number, palette = len(runs[0].classes), runs[0].palette

    def true(image: figures.Image, result: Any) -> figures.Image:
        ids = read_ids(result.metainfo['seg_map_path'])
        labels = {key: label for key, label, _ in result.metainfo['segments']}
        return color_segments(image, ids, labels, number, palette)

    def found(image: figures.Image, result: Any) -> figures.Image:
        ids = np.asarray(result.pred_panoptic_seg.sem_seg[0].cpu())
        classes = {key: key % INSTANCE_OFFSET for key in np.unique(ids).tolist()}
        labels = {key: label for key, label in classes.items() if label < number}
        return color_segments(image, ids, labels, number, palette)

    rows, files = prediction_rows(runs, sources, found, None if folder else true)
    titles = ['image', *['truth'] * (folder is None)]
    titles += [_title(finished, folder) for finished in runs]
    figures.save_figure(figures.sheet(rows, titles, heading_of(runs), names=files), out)


def _title(finished: FinishedRun, folder: Path | None) -> str:
    quality = None if folder else finished.run.metrics.get('PQ')
    return finished.label + ('' if quality is None else f': PQ {quality:.1f}')
