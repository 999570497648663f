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
from moca.transfer.finished import FinishedRun, load_finished, predict
from moca.visualize.predictions import heading_of, sources_of


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
    rows: list[list[Any]] = []
    for run, finished in enumerate(runs):
        for place, (image, result) in enumerate(predict(finished, sources)):
            if run == 0:
                rows.append([image])
                if folder is None:
                    ids = read_ids(result.metainfo['seg_map_path'])
                    segments = result.metainfo['segments']
                    labels = {key: label for key, label, _ in segments}
                    rows[place].append(color_segments(image, ids, labels, number, palette))
            ids = np.asarray(result.pred_panoptic_seg.sem_seg[0].cpu())
            labels = {
                key: key % INSTANCE_OFFSET
                for key in np.unique(ids).tolist()
                if key % INSTANCE_OFFSET < number
            }
            rows[place].append(color_segments(image, ids, labels, number, palette))
    titles = ['image', *['truth'] * (folder is None)]
    titles += [_title(finished, folder) for finished in runs]
    figures.save_figure(figures.sheet(rows, titles, heading_of(runs)), out)


def _title(finished: FinishedRun, folder: Path | None) -> str:
    quality = None if folder else finished.run.metrics.get('PQ')
    return finished.label + ('' if quality is None else f': PQ {quality:.1f}')
