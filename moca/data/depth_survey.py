"""Looking at every image and depth map of a config's data sets, and counting what is there."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from moca import figures
from moca.data.config_datasets import dataset_key, depth_datasets
from moca.data.depth_check import (
    DepthPairs,
    check_rectangles,
    find_depth_pairs,
    meters_of_unit,
    unit_fault,
)
from moca.data.report import print_notes, size_range
from moca.data.survey import Watch
from moca.depth.drawing import depth_sheet
from moca.depth.loading import read_depth, size_fault
from moca.errors import UserError
from moca.images.files import evenly_spread
from moca.images.image_io import read_pixels
from moca.images.inspection import inspect
from moca.images.shown_names import shown_names

_THREADS = 8
_KEPT = 1024  # values of a depth map, for quantiles


@dataclass
class DepthSurvey:
    """What one data set of images with depth holds.

    Attributes:
        name: train, val or test.
        meters: of one unit in the files.
        pairs: its files; None if they could not be listed.
        sizes: how many images are of a size (width, height).
        values: some of the depths as stored, evenly spread over each map, without zeros.
        valid: share of pixels with depth, of each map.
        empty: depth maps of zeros.
        faults: what training would stumble over, each text naming its file.
        right: places of the pairs without a fault.
    """

    name: str
    meters: float
    pairs: DepthPairs | None = None
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    values: list[NDArray[np.float32]] = field(default_factory=list)
    valid: list[float] = field(default_factory=list)
    empty: list[Path] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    right: list[int] = field(default_factory=list)

    def quantiles(self) -> NDArray[np.float64] | None:
        """The depths in meters that 1, 50 and 99 % of the pixels do not reach; None without any."""
        values = np.concatenate(self.values) if self.values else np.zeros(0)
        if not len(values):
            return None
        return np.asarray(np.quantile(values * self.meters, (0.01, 0.5, 0.99)), np.float64)


def depth_survey(cfg: Config, watch: Watch) -> list[DepthSurvey]:
    """Look at every file of the data sets with depth of a config, each data set once."""
    found: list[DepthSurvey] = []
    seen: list[Any] = []
    for name, dataset, _ in depth_datasets(cfg):
        if dataset_key(dataset) in seen:
            continue
        seen.append(dataset_key(dataset))
        result = DepthSurvey(name.split('_')[0], meters_of_unit(dataset) or 1.0)
        found.append(result)
        try:
            result.pairs = find_depth_pairs(dataset, name)
        except UserError as error:
            result.faults.append(str(error))
            continue
        with ThreadPoolExecutor(_THREADS) as pool:
            looked = pool.map(_look, result.pairs.images, result.pairs.depths)
            for place, one in enumerate(watch(looked, len(result.pairs.images), result.name)):
                _add(result, place, *one)
        _judge(cfg, dataset, name, result)
    return found


def _look(image: Path, depth: Path) -> tuple[tuple[int, int], NDArray[np.float32] | None, str]:
    """Size of an image, its depth as stored, and what is wrong, as far as known."""
    for path in (image, depth):
        if not path.is_file():
            return (0, 0), None, f'{path}: the file is missing.'
    about = inspect(image)
    if about.damage:
        return (0, 0), None, f'{image}: a broken image ({about.damage}).'
    try:
        values = read_depth(depth)
    except UserError as error:
        return about.size, None, str(error)
    if values.shape != about.size:
        return about.size, None, f'{depth}: {size_fault(values.shape, about.size)}'
    return about.size, values, ''


def _add(
    result: DepthSurvey,
    place: int,
    size: tuple[int, int],
    values: NDArray[np.float32] | None,
    fault: str,
) -> None:
    if size[0]:
        result.sizes[size[1], size[0]] += 1
    if fault or values is None or result.pairs is None:
        result.faults.append(fault)
        return
    result.right.append(place)
    valid = values[values > 0]
    result.valid.append(len(valid) / values.size)
    result.values.append(valid[:: max(len(valid) // _KEPT, 1)])
    if not len(valid):
        result.empty.append(result.pairs.depths[place])


def _judge(cfg: Config, dataset: dict[str, Any], name: str, result: DepthSurvey) -> None:
    """Note faults of all maps together: their unit, and sizes that steps of the config need."""
    quantiles = result.quantiles()
    head = (cfg.get('model') or {}).get('decode_head') or {}
    if result.pairs is None:
        return
    if quantiles is None:
        if result.right:
            result.faults.append(f'{result.pairs.depths[0]}: all depth maps are zero.')
    elif fault := unit_fault(
        float(quantiles[1]) / result.meters, result.meters, float(head.get('max_depth', 10.0))
    ):
        result.faults.append(f'{result.pairs.depths[0]}: {fault}.')
    try:
        sizes = [inspect(path, decode=False).size for path in result.pairs.images]
        check_rectangles(cfg, dataset, name, result.pairs.images, sizes)
    except UserError as error:
        result.faults.append(str(error))


def show(surveys: Sequence[DepthSurvey], console: Console) -> None:
    """Print sizes, depths and faults of every data set."""
    table = Table('data', 'images', 'sizes', 'depth, m: 1 %', '50 %', '99 %', 'pixels', 'faults')
    for survey in surveys:
        quantiles = survey.quantiles()
        depths = ['-'] * 3 if quantiles is None else [f'{value:.3g}' for value in quantiles]
        table.add_row(
            survey.name,
            str(len(survey.pairs.images)) if survey.pairs else '-',
            size_range(survey.sizes),
            *depths,
            f'{np.mean(survey.valid):.1%}' if survey.valid else '-',
            f'[red]{len(survey.faults)}' if survey.faults else '0',
        )
    console.print(table)
    for survey in surveys:
        notes = []
        if survey.empty:
            notes = [f'{len(survey.empty)} depth maps are all zero, such as {survey.empty[0]}']
        print_notes(survey.name, notes, survey.faults, console)


def sheet(surveys: Sequence[DepthSurvey], out: Path, count: int) -> bool:
    """Draw images of each data set beside their depth, all on one scale.

    Args:
        surveys: what was found.
        out: file to write.
        count: images of each data set, evenly spread over those without a fault.

    Returns:
        Whether there was anything to draw.
    """
    columns: list[list[Any]] = []
    files: list[list[str]] = []
    titles: list[str] = []
    for survey in surveys:
        if survey.pairs is None or not survey.right:
            continue
        places = [survey.right[i] for i in evenly_spread(len(survey.right), count)]
        columns.append([read_pixels(survey.pairs.images[place]) for place in places])
        files += [shown_names([survey.pairs.images[place] for place in places]), []]
        depths = [read_depth(survey.pairs.depths[place]) * survey.meters for place in places]
        columns.append(depths)
        titles += [survey.name, f'{survey.name}, depth']
    if not columns:
        return False
    rows = [list(row) for row in itertools.zip_longest(*columns)]
    names = list(itertools.zip_longest(*files, fillvalue=''))
    figure = depth_sheet(rows, titles, 'Images and depth; where there is none is black', names)
    figures.save_figure(figure, out)
    return True
