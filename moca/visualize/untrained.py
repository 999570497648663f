"""Segmentation without training: what runs have kept of their predictions, beside the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from moca import figures
from moca.engine.cli import read_config
from moca.errors import UserError
from moca.evaluation.dense.kept import FOLDER
from moca.evaluation.dense.labeled_maps import LabeledMaps, read_labeled_maps
from moca.images.files import evenly_spread
from moca.images.shown_names import shown_names
from moca.records.run_json import RECORD, read_record
from moca.segmentation.label_files import read_values
from moca.segmentation.label_maps import IGNORE
from moca.visualize.predictions import overlaid


@dataclass(frozen=True)
class Kept:
    """A run and the label maps that it has kept.

    Attributes:
        record: Of the run.
        maps: Its validation images.
        files: Label maps by the number of their image.
    """

    record: dict[str, Any]
    maps: LabeledMaps
    files: dict[int, Path]

    @property
    def title(self) -> str:
        """The checkpoint's name and score."""
        score = self.record['metrics'].get('mIoU_present')
        return f'{self.record["checkpoint"]["name"]}: mIoU_present {score:.1f}'


def is_untrained(folder: Path) -> bool:
    """Whether a work dir holds a run of a dense protocol without training."""
    return read_record(folder / RECORD).get('task') == 'dense'


def untrained_sheet(folders: Sequence[Path], out: Path, count: int) -> None:
    """Images, truth and what several runs predict, which they have kept in their work dirs.

    Predictions, which are squares, are stretched to the shape of their images.

    Args:
        folders: Work dirs of in-context segmentation on the same images.
        out: Image to write.
        count: How many images, at most as many as were kept.

    Raises:
        UserError: A run has kept nothing, or runs are of other images.
    """
    runs = [_read(folder) for folder in folders]
    first = runs[0].maps
    for folder, run in zip(folders, runs, strict=True):
        if run.maps.names != first.names or not np.array_equal(run.maps.images, first.images):
            raise UserError(f'{folder}: measured on other images than {folders[0]}.')
    shared = sorted(set.intersection(*(set(run.files) for run in runs)))
    if not shared:
        raise UserError(
            f'{", ".join(map(str, folders))}: no image was kept by all. Run them with the same '
            'evaluation.keep.'
        )
    rows, seen, paths = [], set(), []
    for place in evenly_spread(len(shared), min(count, len(shared))):
        number = shared[place]
        image, truth = first.read(number)
        paths.append(first.image_name(number))
        found = [read_values(run.files[number]) for run in runs]
        rows.append([image, *(overlaid(image, m, first.palette) for m in (truth, *found))])
        seen |= {int(label) for labels in (truth, *found) for label in np.unique(labels)}
    classes = sorted(seen - {IGNORE})
    names = [first.names[number] for number in classes]
    titles = ['image', 'truth', *(run.title for run in runs)]
    files = [[name] for name in shown_names(paths)]
    room = figures.legend_inches(names)
    figure = figures.sheet(rows, titles, runs[0].record['title'], room, names=files)
    figures.class_legend(figure, names, [first.palette[number] for number in classes])
    figures.save_figure(figure, out)


def _read(folder: Path) -> Kept:
    record = read_record(folder / RECORD)
    files = {int(path.stem): path for path in (folder / FOLDER).glob('*.png')}
    if record.get('status') != 'finished' or not files:
        raise UserError(
            f'{folder}: no finished run that has kept predictions. In-context segmentation keeps '
            'those of evaluation.keep images.'
        )
    cfg = read_config(folder / record['config'])
    return Kept(record, read_labeled_maps(cfg.evaluation.val, f'{folder}: evaluation.val'), files)
