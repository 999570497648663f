"""One sheet of patch features through a training: a row for each picture, a column for a moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from moca.errors import UserError
from moca.evaluation import pictures
from moca.evaluation.feature_pictures import load_moment, moments_of
from moca.evaluation.folder import choose


def progress_sheet(work_dir: Path, out: Path, count: int, columns: int = 8) -> None:
    """Draw what `FeaturePictures` has kept of a run.

    Args:
        work_dir: Of the run.
        out: Picture to write.
        count: How many of the pictures at most.
        columns: How many moments at most, evenly spaced, the first and the last among them.

    Raises:
        UserError: The run has kept nothing.
    """
    paths = list(moments_of(work_dir).values())
    if not paths:
        raise UserError(
            f'{work_dir}: no pictures of features in */vis_data/features. Name the work dir of a '
            'run with the FeaturePictures hook.'
        )
    last = load_moment(paths[-1])
    # a run resumed with other pictures starts another sheet
    same = [
        moment
        for moment in map(load_moment, paths)
        if np.array_equal(moment.pictures, last.pictures)
    ]
    moments = [same[index] for index in choose(len(same), columns)]
    shown = [moment.colours() for moment in moments]
    rows: list[list[Any]] = [
        [moments[-1].pictures[number], *(colours[number] for colours in shown)]
        for number in choose(len(moments[-1].pictures), count)
    ]
    titles = ['picture', *(f'epoch {moment.epoch}' for moment in moments)]
    heading = f"The {moments[-1].branch}'s patch features: principal components as red, green, blue"
    pictures.save_figure(pictures.sheet(rows, titles, heading), out)
