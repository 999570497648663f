"""Checks of panoptic annotations: what would stop a run half-way, or make it learn nothing."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from moca.data.config_datasets import nested_dicts
from moca.detection.panoptic_dataset import KINDS, PanopticDataset, labels_of
from moca.detection.panoptic_file import PanopticFile, check_mode, read_panoptic_file
from moca.errors import UserError
from moca.images.files import dataset_path, require_files, require_folder, require_whole

_THREADS = 8


def check_panoptic(
    cfg: Config, dataset: dict[str, Any], field: str
) -> tuple[PanopticFile, dict[Any, int]]:
    """Check a `PanopticDataset` and log what is in it; of PNGs the headers are read.

    Args:
        cfg: The run's, whose heads have to have as many things and as much stuff.
        dataset: Config of the data set.
        field: Where it stands in the config.

    Returns:
        What the annotation file says, and the label of each of its category ids.

    Raises:
        UserError: Naming the file and what is wrong in it.
    """
    images, masks = (require_folder(dataset, key, field) for key in ('img', 'seg'))
    path = dataset_path(dataset, dataset['ann_file'])
    if not path.is_file():
        raise UserError(f'{path}: no such annotation file ({field}.ann_file).')
    file = read_panoptic_file(path)
    if not file.images:
        raise UserError(f'{path}: no image with annotations.')
    things, stuff = classes_of(dataset)
    labels = labels_of(file, things, stuff)
    for head in nested_dicts(cfg.get('model')):
        for kind, names in zip(('things', 'stuff'), (things, stuff), strict=True):
            name = f'num_{kind}_classes'
            if head.get(name, len(names)) != len(names):
                raise UserError(
                    f'{path}: {len(names)} classes of {kind}, but model.panoptic_head.{name}='
                    f'{head[name]}. Set it to {len(names)}.'
                )
    files = [images / image.file_name for image in file.images]
    pngs = [masks / image.png for image in file.images]
    require_files(files, f'listed in {path}')
    require_files(pngs, f'listed in {path}')
    require_whole(files)
    require_whole(pngs)
    with ThreadPoolExecutor(_THREADS) as pool:
        for _ in pool.map(check_mode, pngs):
            pass
    print_log(describe(file), 'current')
    return file, labels


def classes_of(dataset: dict[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of things and of stuff of a data set's config."""
    about = {**PanopticDataset.METAINFO, **(dataset.get('metainfo') or {})}
    things, stuff = (tuple(about.get(f'{kind}_classes') or ()) for kind in KINDS)
    return things, stuff


def describe(file: PanopticFile) -> str:
    """Numbers of images and segments in a sentence."""
    kinds = {row['id']: 'things' if row['isthing'] else 'stuff' for row in file.categories}
    counts: Counter[str] = Counter()
    for image in file.images:
        counts.update('crowds' if s.crowd else kinds[s.category] for s in image.segments)
    empty = sum(not image.segments for image in file.images)
    parts = [f'{counts[name]:,} {name}' for name in ('things', 'stuff', 'crowds')]
    without = f'; {file.without:,} images without annotations left out' if file.without else ''
    none = f' ({empty:,} without a segment)' if empty else ''
    return f'{file.path}: {len(file.images):,} images{none} with {", ".join(parts)}{without}.'
