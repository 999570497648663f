"""Looking at every image and label map of a config's data sets, and counting what is there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import mmdet.datasets
import mmseg.datasets
import numpy as np
from mmengine.config import Config
from numpy.typing import NDArray

from moca.data.coco_check import check_coco
from moca.data.config_datasets import dataset_key, datasets_of, segmentation_datasets
from moca.data.pairs import Pairs, check_pairs, find_pairs, missing_label_hint
from moca.engine.distributed import launched_rank
from moca.errors import UserError
from moca.images.files import image_fault
from moca.segmentation.label_maps import IGNORE, LabelFault, LabelRule, read_values

_THREADS = 8

Watch = Callable[[Iterable[Any], int, str], Iterable[Any]]
"""Wraps an iteration of known length and title to show its progress."""


@dataclass
class Survey:
    """What one data set holds.

    Attributes:
        name: of its data loader, train, val or test.
        pairs: its files; None if they could not be listed.
        sizes: how many images are of a size (width, height).
        pixels: of each class, `[256]`; the last is ignored.
        images: that contain a class, `[256]`.
        faults: what training would stumble over, each text naming its file.
        ignored: label maps without a labeled pixel.
        orphans: label maps without an image.
        right: places of the pairs without a fault.
    """

    name: str
    pairs: Pairs | None = None
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    pixels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    images: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    faults: list[str] = field(default_factory=list)
    ignored: list[Path] = field(default_factory=list)
    orphans: list[Path] = field(default_factory=list)
    right: list[int] = field(default_factory=list)


def survey(cfg: Config, watch: Watch) -> list[Survey]:
    """Look at every file of the mmseg data sets of a config, each data set once.

    Every image and label map is decoded: this takes minutes where `check_data` takes seconds.

    Raises:
        UserError: if the config has no data set of mmseg.
    """
    found: list[Survey] = []
    seen: list[Any] = []
    for name, dataset, _ in segmentation_datasets(cfg):
        about = dataset_key(dataset)
        if about not in seen:
            seen.append(about)
            found.append(_survey(name, dataset, watch))
    if not found:
        raise UserError(
            f"{cfg.filename}: no data set of mmseg, and none of COCO's format, to look at."
        )
    return found


def _survey(name: str, dataset: dict[str, Any], watch: Watch) -> Survey:
    result = Survey(name.split('_')[0])
    try:
        pairs = result.pairs = find_pairs(dataset, name)
    except UserError as error:
        result.faults.append(str(error))
        return result
    hint = missing_label_hint(pairs.labels, dataset)
    with ThreadPoolExecutor(_THREADS) as pool:
        inspected = pool.map(
            lambda image, label: _inspect(image, label, pairs.rule, hint),
            *(pairs.images, pairs.labels),
        )
        for place, found in enumerate(watch(inspected, len(pairs.images), result.name)):
            _add(result, place, *found)
    if not dataset.get('ann_file'):  # a list may leave files out
        known = set(pairs.labels)
        there = pairs.label_folder.rglob(f'*{pairs.label_suffix}')
        result.orphans = sorted(path for path in there if path not in known)
    return result


def _inspect(
    image: Path, label: Path, rule: LabelRule | None, hint: str
) -> tuple[tuple[int, int] | None, NDArray[np.int64] | None, str | None]:
    """Return a pair's size (height, width), pixels per class `[256]` and fault, as far as known."""
    for path, missing in ((image, ''), (label, hint)):
        if not path.is_file():
            return None, None, f'{path}: the file is missing.{missing}'
        broken = image_fault(path)
        if broken:
            return None, None, f'{path}: a broken image ({broken}).'
    pixels = cv2.imread(str(image))
    if pixels is None:
        return None, None, f'{image}: cannot be read as an image.'
    size: tuple[int, int] = pixels.shape[:2]
    if rule is None:
        return size, None, None
    try:
        labels = rule.convert(read_values(label), size)
    except LabelFault as fault:
        return size, None, f'{label}: {fault}.'
    return size, np.bincount(labels.ravel(), minlength=256), None


def _add(
    result: Survey,
    place: int,
    size: tuple[int, int] | None,
    counts: NDArray[np.int64] | None,
    fault: str | None,
) -> None:
    if size is not None:
        result.sizes[size[1], size[0]] += 1
    if fault is not None:
        result.faults.append(fault)
        return
    result.right.append(place)
    if counts is None or result.pairs is None:
        return
    result.pixels += counts
    result.images += counts > 0
    if not counts[:IGNORE].any():
        result.ignored.append(result.pairs.labels[place])


def check_data(cfg: Config, splits: Sequence[str] = ('train', 'val')) -> None:
    """Check the data sets of a config: mmseg's of image pairs and mmdet's of COCO format.

    Of several processes only the first looks: the launcher ends the others when it refuses.

    Args:
        cfg: a config with ``train_dataloader`` and so on.
        splits: which of train, val and test to check. A split that the config has not is skipped.

    Raises:
        UserError: naming the folder or file that is missing, empty, incomplete or broken, and what
            to do about it.
    """
    if launched_rank(cfg.get('launcher', 'none')) > 0:
        return
    checked: list[dict[str, Any]] = []
    bases = (mmseg.datasets.BaseSegDataset, mmdet.datasets.CocoDataset)
    for name, dataset, cls in datasets_of(cfg, bases, splits):
        about = dataset_key(dataset)
        if about in checked:
            continue
        checked.append(about)
        if issubclass(cls, mmseg.datasets.BaseSegDataset):
            check_pairs(dataset, name)
        else:
            check_coco(cfg, dataset, cls, name)
