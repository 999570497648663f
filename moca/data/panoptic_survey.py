"""Looking at every image and every segment of a config's panoptic data sets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from rich.console import Console
from rich.table import Table

from moca import figures
from moca.data.config_datasets import dataset_key, datasets_of
from moca.data.panoptic_check import check_panoptic
from moca.data.report import print_notes
from moca.data.survey import Watch
from moca.detection.panoptic_dataset import PanopticDataset
from moca.detection.panoptic_drawing import color_segments
from moca.detection.panoptic_file import (
    PanopticFile,
    PanopticImage,
    fault_of,
    read_ids,
)
from moca.errors import UserError
from moca.images.files import dataset_path, evenly_spread
from moca.images.image_io import read_pixels
from moca.images.inspection import inspect

_THREADS = 8


@dataclass
class PanopticSurvey:
    """What one panoptic data set holds.

    Attributes:
        name: train, val or test.
        images, masks: Folders.
        file: The annotation file; None if it could not be read.
        labels: Of each category id.
        segments, pixels: Of each category id.
        crowds: How many segments are crowds.
        without: Segments without a pixel, which are left out.
        faults: What training would stumble over, each text naming its file.
        right: Images without a fault.
    """

    name: str
    images: Path
    masks: Path
    file: PanopticFile | None = None
    labels: dict[Any, int] = field(default_factory=dict)
    segments: Counter[Any] = field(default_factory=Counter)
    pixels: Counter[Any] = field(default_factory=Counter)
    crowds: int = 0
    without: int = 0
    faults: list[str] = field(default_factory=list)
    right: list[PanopticImage] = field(default_factory=list)


def panoptic_datasets(cfg: Config) -> list[tuple[str, dict[str, Any]]]:
    """(field, config) of every `PanopticDataset` of a config."""
    return [(name, dataset) for name, dataset, _ in datasets_of(cfg, PanopticDataset)]


def panoptic_survey(cfg: Config, watch: Watch) -> list[PanopticSurvey]:
    """Look at every file of the panoptic data sets of a config, each data set once."""
    found: list[PanopticSurvey] = []
    seen: list[Any] = []
    for name, dataset in panoptic_datasets(cfg):
        if dataset_key(dataset) in seen:
            continue
        seen.append(dataset_key(dataset))
        prefix = dataset.get('data_prefix') or {}
        images, masks = (dataset_path(dataset, prefix.get(key) or '') for key in ('img', 'seg'))
        result = PanopticSurvey(name.split('_')[0], images, masks)
        found.append(result)
        try:
            result.file, result.labels = check_panoptic(cfg, dataset, name)
        except UserError as error:
            result.faults.append(str(error))
            continue
        with ThreadPoolExecutor(_THREADS) as pool:
            looked = pool.map(partial(_look, result), result.file.images)
            for image, (fault, sizes) in zip(
                result.file.images,
                watch(looked, len(result.file.images), result.name),
                strict=True,
            ):
                _add(result, image, fault, sizes)
    return found


def _look(result: PanopticSurvey, image: PanopticImage) -> tuple[str | None, dict[int, int]]:
    """What is wrong with an image, and the number of pixels of each id."""
    path = result.images / image.file_name
    if damage := inspect(path).damage:
        return f'{path}: a broken image ({damage}).', {}
    png = result.masks / image.png
    try:
        ids = read_ids(png)
    except UserError as error:
        return str(error), {}
    if fault := fault_of(ids, (image.height, image.width), image.segments):
        return f'{png}: {fault}.', {}
    values, counts = np.unique(ids, return_counts=True)
    return None, dict(zip(values.tolist(), counts.tolist(), strict=True))


def _add(
    result: PanopticSurvey, image: PanopticImage, fault: str | None, sizes: dict[int, int]
) -> None:
    if fault is not None:
        result.faults.append(fault)
        return
    result.right.append(image)
    for segment in image.segments:
        if segment.id not in sizes:
            result.without += 1
            continue
        result.crowds += segment.crowd
        result.segments[segment.category] += 1
        result.pixels[segment.category] += sizes[segment.id]


def show(surveys: Sequence[PanopticSurvey], console: Console) -> None:
    """Print what is there, and every fault."""
    for survey in surveys:
        if survey.file is not None:
            table = Table('class', 'kind', 'segments', 'share of pixels')
            whole = max(sum(survey.pixels.values()), 1)
            for row in survey.file.categories:
                kind = 'thing' if row['isthing'] else 'stuff'
                share = f'{100 * survey.pixels[row["id"]] / whole:.2f} %'
                table.add_row(row['name'], kind, f'{survey.segments[row["id"]]:,}', share)
            console.print(table)
            console.print(
                f'{survey.name}: {len(survey.right):,} images, {survey.crowds:,} crowds; '
                f'{survey.file.without:,} images without annotations and {survey.without:,} '
                'segments without a pixel are left out',
                markup=False,
            )
        print_notes(survey.name, [], survey.faults, console)


def sheet(surveys: Sequence[PanopticSurvey], out: Path, count: int) -> bool:
    """Draw some images beside their segments; False where there are none."""
    rows, names = [], []
    for survey in surveys:
        for place in evenly_spread(len(survey.right), count) if survey.right else ():
            image = survey.right[place]
            pixels = read_pixels(survey.images / image.file_name)
            ids = read_ids(survey.masks / image.png)
            labels = {segment.id: survey.labels[segment.category] for segment in image.segments}
            number = max(survey.labels.values()) + 1
            rows.append([pixels, color_segments(pixels, ids, labels, number)])
            names.append([f'{survey.name}: {image.file_name}'])
    if rows:
        figure = figures.sheet(rows, ['image', 'segments'], 'Panoptic data', names=names)
        figures.save_figure(figure, out)
    return bool(rows)
