"""Looking at every image and label map of a config's data sets, and counting what is there."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mmdet.datasets
import mmseg.datasets
import numpy as np
from mmengine.config import Config
from numpy.typing import NDArray

from moca.data.coco_check import check_coco
from moca.data.config_datasets import dataset_key, datasets_of, segmentation_datasets
from moca.data.depth_check import check_depth
from moca.data.pair_check import Looked, check_pairs, check_together
from moca.data.pairs import Pairs, find_pairs, has_labels, missing_label_hint, unused_notes
from moca.data.panoptic_check import check_panoptic
from moca.detection.panoptic_dataset import PanopticDataset
from moca.engine.distributed import launched_rank
from moca.errors import UserError
from moca.images.files import image_fault
from moca.images.inspection import Inspection, inspect
from moca.segmentation.label_files import LabelFault, read_values, size_fault
from moca.segmentation.label_maps import IGNORE, LabelRule

_THREADS = 8
NO_LABELS = (
    '{field}: data_prefix.seg_map_path names no folder of label maps, without which there is '
    'nothing to train or to score with. Only a test set can do without.'
)

Watch = Callable[[Iterable[Any], int, str], Iterable[Any]]
"""Wraps an iteration of known length and title to show its progress."""


@dataclass
class Survey:
    """What one data set holds.

    Attributes:
        name: of its data loader, train, val or test; with a number if it is one of its parts.
        pairs: its files; None if they could not be listed.
        sizes: how many images are of a size (width, height).
        pixels: of each class, `[256]`; the last is ignored.
        images: that contain a class, `[256]`.
        faults: what training would stumble over, each text naming its file.
        ignored: label maps without a labeled pixel.
        orphans: label maps without an image.
        odd: images that are odd though no run stops at them, by what they are.
        notes: what is no fault, but what the owner of the data should know.
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
    odd: defaultdict[str, list[Path]] = field(default_factory=lambda: defaultdict(list))
    notes: list[str] = field(default_factory=list)
    right: list[int] = field(default_factory=list)


def survey(cfg: Config, watch: Watch) -> list[Survey]:
    """Look at every file of the mmseg data sets of a config, each data set once.

    Every image and label map is decoded: this takes minutes where `check_data` takes seconds.

    Raises:
        UserError: if the config has no data set of mmseg.
    """
    found: list[Survey] = []
    seen: list[Any] = []
    parts: Counter[str] = Counter()
    for field_name, dataset, _ in segmentation_datasets(cfg):
        about = dataset_key(dataset)
        if about not in seen:
            seen.append(about)
            split = field_name.split('_')[0]
            parts[split] += 1
            name = split if parts[split] == 1 else f'{split}, part {parts[split]}'
            found.append(_survey(name, field_name, dataset, watch))
    if not found:
        raise UserError(
            f"{cfg.filename}: no data set of mmseg, and none of COCO's format, to look at."
        )
    _drop_known_orphans(found)
    for split in parts:
        together = [part for part in found if part.name.split(',')[0] == split]
        _judge_classes(together)
        try:
            notes = unused_notes([part.pairs for part in together if part.pairs])
            together[0].notes.extend(notes)
        except UserError as error:
            together[0].faults.append(str(error))
    return found


def _drop_known_orphans(surveys: Sequence[Survey]) -> None:
    """Parts may share a folder: what has its image in another part is no orphan."""
    known = {label for part in surveys if part.pairs for label in part.pairs.labels}
    for part in surveys:
        part.orphans = [path for path in part.orphans if path not in known]


def _judge_classes(parts: Sequence[Survey]) -> None:
    """Note a fault where the parts of a split have less than two classes, all of them together."""
    first = next((part for part in parts if part.pairs and part.pairs.rule), None)
    if not (first and first.pairs and first.pairs.rule and any(part.right for part in parts)):
        return
    rule, names = first.pairs.rule, first.pairs.names
    counts = np.sum([part.pixels for part in parts], axis=0)
    text = rule.few_classes(counts, names)
    if text:
        first.faults.append(f'{first.pairs.label_folder}: in all label maps read, {text}.')


def _survey(name: str, field_name: str, dataset: dict[str, Any], watch: Watch) -> Survey:
    result = Survey(name)
    if not has_labels(dataset) and not field_name.startswith('test'):
        result.faults.append(NO_LABELS.format(field=field_name))
        return result
    try:
        pairs = result.pairs = find_pairs(dataset, field_name)
    except UserError as error:
        result.faults.append(str(error))
        return result
    result.notes += pairs.notes
    hint = missing_label_hint(pairs.labels, dataset)
    without: list[Path | None] = [None] * len(pairs.images)
    with ThreadPoolExecutor(_THREADS) as pool:
        inspected = pool.map(
            lambda image, label: _inspect(image, label, pairs.rule, hint),
            *(pairs.images, pairs.labels or without),
        )
        for place, found in enumerate(watch(inspected, len(pairs.images), result.name)):
            _add(result, place, *found)
    if pairs.label_folder and not dataset.get('ann_file'):  # a list may leave files out
        known = set(pairs.labels)
        there = pairs.label_folder.rglob(f'*{pairs.label_suffix}')
        result.orphans = sorted(path for path in there if path not in known)
    return result


def _inspect(
    image: Path, label: Path | None, rule: LabelRule | None, hint: str
) -> tuple[Inspection, NDArray[np.int64] | None, str | None]:
    """Return what an image is, its pixels per class `[256]` and its fault, as far as known."""
    for path, missing in ((image, ''), (label, hint)):
        if path is None:
            continue
        if not path.is_file():
            return Inspection(), None, f'{path}: the file is missing.{missing}'
    about = inspect(image)
    broken = {image: about.damage, label: label and image_fault(label)}
    for path, fault in broken.items():
        if fault:
            return Inspection(), None, f'{path}: a broken image ({fault}).'
    if rule is None or label is None:
        return about, None, None
    try:
        values = read_values(label)
        if note := about.size_note(*values.shape[:2]):
            return about, None, f'{label}: {size_fault(values.shape, about.size)}{note}.'
        labels = rule.convert(values, about.size)
    except LabelFault as error:
        return about, None, f'{label}: {error}.'
    return about, np.bincount(labels.ravel(), minlength=256), None


def _add(
    result: Survey,
    place: int,
    about: Inspection,
    counts: NDArray[np.int64] | None,
    fault: str | None,
) -> None:
    if about.width:
        result.sizes[about.width, about.height] += 1
    if result.pairs is not None:
        for what in about.oddities():
            result.odd[what].append(result.pairs.images[place])
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
    """Check the data sets of a config: mmseg's of label maps or depth, and those of COCO's formats.

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
    looked: list[Looked | None] = []
    of_loader: dict[str, list[Looked]] = {}
    bases = (mmseg.datasets.BaseSegDataset, mmdet.datasets.CocoDataset, PanopticDataset)
    for name, dataset, cls in datasets_of(cfg, bases, splits):
        about = dataset_key(dataset)
        if issubclass(cls, mmseg.datasets.NYUDataset):
            if about not in checked:
                checked.append(about)
                looked.append(None)
                check_depth(cfg, dataset, name)
            continue
        segmentation = issubclass(cls, mmseg.datasets.BaseSegDataset)
        if segmentation and not has_labels(dataset) and not name.startswith('test'):
            raise UserError(NO_LABELS.format(field=name))
        if about not in checked:
            checked.append(about)
            looked.append(check_pairs(dataset, name) if segmentation else None)
            if issubclass(cls, PanopticDataset):
                check_panoptic(cfg, dataset, name)
            elif not segmentation:
                check_coco(cfg, dataset, cls, name)
        if found := looked[checked.index(about)]:
            of_loader.setdefault(name, []).append(found)
    for name, parts in of_loader.items():
        check_together(parts, name)
