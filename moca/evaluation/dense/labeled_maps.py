"""Images with label maps, as a segmentation data set of mmseg lists them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log
from numpy.typing import NDArray

from moca.data.config_datasets import leaf_datasets, nested_dicts
from moca.data.pair_check import check_pairs, check_together
from moca.data.pairs import has_labels
from moca.engine.ranges import check_count, check_each
from moca.errors import UserError
from moca.evaluation.image_sets import check_files_apart
from moca.images.image_io import read_pixels
from moca.segmentation.label_files import LabelFault, read_values
from moca.segmentation.label_maps import LabelRule

_LOADING = ('LoadAnnotations', 'LoadCheckedAnnotations')


@dataclass(frozen=True)
class LabeledMaps:
    """Images and label maps.

    Attributes:
        images, labels: Their paths, as bytes of equal length ``[N]`` (worker processes would copy
            a list of Python strings piece by piece).
        rules: What the label maps of each part may hold.
        part: ``[N]``, which of the rules is an image's.
        names: Of the classes.
        palette: Their colors, RGB of 0 to 255.
    """

    images: NDArray[np.bytes_]
    labels: NDArray[np.bytes_]
    rules: tuple[LabelRule, ...]
    part: NDArray[np.int64]
    names: tuple[str, ...]
    palette: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def num_classes(self) -> int:
        """Classes that label maps may hold, 255 aside."""
        return self.rules[0].num_classes

    def read(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """An image ``[H, W, 3]`` RGB and its labels ``[H, W]``, 255 where ignored.

        Raises:
            UserError: One of the files cannot be read, or the label map does not fit.
        """
        pixels = read_pixels(os.fsdecode(bytes(self.images[index])))
        path = Path(os.fsdecode(bytes(self.labels[index])))
        rule = self.rules[self.part[index]]
        try:
            return pixels, rule.convert(read_values(path), pixels.shape[:2])
        except LabelFault as fault:
            raise UserError(f'{path}: {fault}.') from fault

    def state(self) -> str:
        """A digest of the files, their sizes and times of change, and how labels are read."""
        digest = sha256(repr((self.rules, self.part.tolist())).encode())
        for path in (*self.images, *self.labels):
            about = os.stat(bytes(path))
            digest.update(bytes(path) + f'\0{about.st_size}\0{about.st_mtime_ns}\n'.encode())
        return digest.hexdigest()

    def image_name(self, index: int) -> str:
        """The path of an image."""
        return os.fsdecode(bytes(self.images[index]))


def read_labeled_maps(dataset: dict[str, Any], field: str) -> LabeledMaps:
    """List and check the images and label maps of a data set's config.

    Of its pipeline the step that loads label maps alone counts (``num_classes``, ``ids`` and
    ``ignore_ids`` of `LoadCheckedAnnotations`); without one, label maps hold the data set's
    classes. Few images are named by ``ann_file`` or ``indices``.

    Args:
        dataset: The config, of one data set or of several in a `ConcatDataset`.
        field: What to call it in messages.

    Raises:
        UserError: A folder or file is missing, broken or wrong; or parts have different classes.
    """
    found, images, labels, part = [], [], [], []
    for number, leaf in enumerate(leaf_datasets(dataset)):
        if not has_labels(leaf):
            raise UserError(f'{field}: data_prefix.seg_map_path names no folder of label maps.')
        looked = check_pairs(dict(leaf, pipeline=_loading_steps(leaf)), field)
        pairs, places = looked.pairs, leaf.get('indices')
        places = range(len(pairs.images)) if places is None else places
        found.append(looked)
        images += [os.fsencode(pairs.images[place]) for place in places]
        labels += [os.fsencode(pairs.labels[place]) for place in places]
        part += [number] * len(places)
    check_together(found, field)
    rules = tuple(looked.pairs.rule for looked in found if looked.pairs.rule is not None)
    if len(rules) < len(found) or len({rule.num_classes for rule in rules}) > 1:
        raise UserError(
            f'{field}: its parts have {[rule.num_classes for rule in rules]} classes, or label '
            'maps that another transform than LoadCheckedAnnotations reads. Give all the same.'
        )
    first = found[0].pairs
    names, palette = tuple(first.names), tuple(tuple(color) for color in first.palette)
    if rules[0].num_classes == len(names) + 1:  # what reduce_zero_label leaves out is a class here
        names, palette = ('other', *names), ((0, 0, 0), *palette)
    print_log(f'{field}: {len(images):,} images of {rules[0].num_classes} classes.', 'current')
    return LabeledMaps(
        np.array(images),
        np.array(labels),
        rules,
        np.array(part, dtype=np.int64),
        names,
        palette,
    )


def _loading_steps(dataset: dict[str, Any]) -> list[dict[str, Any]]:
    steps = nested_dicts(dataset.get('pipeline'))
    loading = [step for step in steps if str(step.get('type')).rpartition('.')[2] in _LOADING]
    return loading or [dict(type='LoadAnnotations')]


def require_same_classes(bank: LabeledMaps, queries: LabeledMaps, fields: Sequence[str]) -> None:
    """Refuse queries whose labels are other classes than the bank's.

    Raises:
        UserError: Numbers of classes, or their names, differ.
    """
    if bank.num_classes != queries.num_classes or bank.names != queries.names:
        raise UserError(
            f'{fields[0]} has {bank.num_classes} classes and {fields[1]} {queries.num_classes}, '
            'or they have other names. Give both the same metainfo.classes.'
        )


def read_bank_and_queries(
    train: dict[str, Any], val: dict[str, Any]
) -> tuple[LabeledMaps, LabeledMaps]:
    """Two data sets of the same classes, which have no image in common.

    Args:
        train: The config ``evaluation.train``, of the images that are learned from.
        val: ``evaluation.val``, of those that are scored.

    Raises:
        UserError: As `read_labeled_maps`; or the classes differ, or an image is in both.
    """
    fields = 'evaluation.train', 'evaluation.val'
    bank, queries = (read_labeled_maps(*pair) for pair in zip((train, val), fields, strict=True))
    require_same_classes(bank, queries, fields)
    check_files_apart(bank.images, queries.images, fields)
    return bank, queries


def check_settings(**settings: int) -> None:
    """Refuse settings of an evaluation that are no whole numbers above 0.

    Raises:
        UserError: Naming the first.
    """
    for name, value in settings.items():
        check_count(value, f'evaluation.{name}')


def check_labels(labels: Any, field: str) -> None:
    """Refuse what is no list of labels of pixels, which may be empty.

    Raises:
        UserError: It is none, or one of them is no whole number from 0 up.
    """
    check_each(labels, field, partial(check_count, lowest=0), least=0)
