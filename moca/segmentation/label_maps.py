"""Label maps: what their files may hold, and what is wrong with one that holds something else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from moca.errors import UserError
from moca.segmentation.label_files import NO_COLORS, LabelFault, size_fault

IGNORE = 255
LARGEST_ID = 65535
"""The largest value of a class in a file: of 16 bits."""
_FAULT = 254
"""What the table maps to where a value means nothing; so there can be no class 254."""

ONE_CLASS = (
    'there is nothing to tell a single class from. Name two, such as '
    "classes=('background', 'object') with num_classes=2: masks of 0 and 1 then fit as they are, "
    'those of 0 and 255 with ids=[0, 255] in LoadCheckedAnnotations'
)
"""Why num_classes=1 is refused, and what to write instead."""

_SHOWN = 5  # values named in an error
_LISTED = 12  # ids that a hint spells out
_CITYSCAPES_CLASSES, _CITYSCAPES_IDS = 19, 34  # train ids 0 to 18, labelIds 0 to 33


@dataclass(frozen=True)
class LabelRule:
    """How the values of a data set's files become classes 0 to `num_classes` - 1 or 255 (ignored).

    Attributes:
        num_classes: of the model's heads, two or more.
        reduce_zero_label: in the files 0 is ignored and classes count from 1, as in ADE20K.
        ids: the value of each class in the files, in the order of the classes; None where they are
            the numbers of the classes themselves. One of them may be 255, which is then a class.
        ignore_ids: values that are ignored, beside 255.
        label_map: mmseg's, from a class of the data set to one of the model's, or to 255.

    Raises:
        UserError: if the parts contradict each other, or leave a class that no value stands for.
    """

    num_classes: int
    reduce_zero_label: bool = False
    ids: tuple[int, ...] | None = None
    ignore_ids: tuple[int, ...] = ()
    label_map: Mapping[int, int] | None = None

    def __post_init__(self) -> None:
        if self.num_classes == 1:
            raise UserError(f'num_classes=1: {ONE_CLASS}.')
        if not 0 < self.num_classes < _FAULT:
            raise UserError(f'num_classes={self.num_classes}: label maps hold 2 to 253 classes.')
        if self.ids is not None:
            self._check_ids(self.ids)
        if wrong := [v for v in self.ignore_ids if isinstance(v, bool) or not isinstance(v, int)]:
            raise UserError(f'ignore_ids: whole numbers; not {wrong}.')
        clash = sorted(v for v in set(self.ignore_ids) if self.classes.get(v, IGNORE) != IGNORE)
        if clash:
            numbers = [self.classes[value] for value in clash]
            raise UserError(
                f'ignore_ids={clash}: these are the values of classes {numbers}, which would never '
                'be seen. Leave them out of ignore_ids, or say with ids which values the classes '
                'have (reduce_zero_label=True in the data set: 0 is ignored and they count from 1).'
            )
        missing = sorted(set(range(self.num_classes)) - set(self.classes.values()))
        if missing:
            raise UserError(
                f'classes {missing} of {self.num_classes}: no value of the files stands for them. '
                "Name each class once in metainfo.classes, as many as the heads' num_classes."
            )

    def _check_ids(self, ids: tuple[int, ...]) -> None:
        if len(ids) != self.num_classes:
            raise UserError(f'{len(ids)} ids for {self.num_classes} classes: give one each.')
        if self.reduce_zero_label:
            raise UserError('ids name the values of the files: leave reduce_zero_label out.')
        if self.label_map is not None:
            raise UserError(
                "ids name the values of the files, and metainfo.classes choose from the data set's "
                'own classes, which have values already. Leave ids out, or set '
                "type='BaseSegDataset'."
            )
        wrong = [v for v in ids if not isinstance(v, int) or not 0 <= v <= LARGEST_ID]
        if wrong or len(set(ids)) < len(ids):
            wrong = wrong or sorted({v for v in ids if ids.count(v) > 1})
            raise UserError(f'ids: different values of 0 to {LARGEST_ID} each; not {wrong}.')

    @cached_property
    def classes(self) -> dict[int, int]:
        """What each value of a file means: a class, or 255; other values mean nothing."""
        found = dict.fromkeys((IGNORE, *self.ignore_ids), IGNORE)
        if self.reduce_zero_label:
            found[0] = IGNORE
        given = self.num_classes if self.label_map is None else len(self.label_map)
        first = 1 if self.reduce_zero_label else 0
        for number, value in enumerate(self.ids or range(first, first + given)):
            label = number if self.label_map is None else self.label_map[number]
            if label != IGNORE or value not in found:
                found[value] = label
        return found

    @cached_property
    def values(self) -> tuple[int, ...]:
        """The value of each class in the files, in the order of the classes."""
        inverse = {label: value for value, label in reversed(self.classes.items())}
        return tuple(inverse[number] for number in range(self.num_classes))

    @cached_property
    def table(self) -> NDArray[np.uint8]:
        """Value of a file to class, `[256]`; 254 for a value that means nothing."""
        table = np.full(256, _FAULT, np.uint8)
        for value, label in self.classes.items():
            if 0 <= value < len(table):
                table[value] = label
        return table

    def convert(
        self, values: NDArray[Any], size: tuple[int, int] | None = None
    ) -> NDArray[np.uint8]:
        """The classes `[H, W]` of a file's content.

        Args:
            values: as decoded, `[H, W]` if it is a label map.
            size: height and width of its image, which have to be the same.

        Raises:
            LabelFault: saying what is wrong with the content, and what may help.
        """
        if values.ndim != 2:
            shape = ' x '.join(map(str, values.shape))
            raise LabelFault(f'holds colors ({shape}), {NO_COLORS}')
        if size is not None and values.shape != tuple(size):
            raise LabelFault(size_fault(values.shape, size))
        if values.dtype.kind not in 'bui':
            raise LabelFault(
                f'holds values of type {values.dtype}, not class numbers. Write whole numbers, as '
                'PNG of one channel'
            )
        labels = self._labels(values)
        if (labels == _FAULT).any():
            raise LabelFault(self._value_fault(np.unique(values).tolist()))
        return labels

    def _labels(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        if values.dtype in (np.uint8, np.bool_) or (
            values.size and 0 <= values.min() <= values.max() < 256
        ):
            return cv2.LUT(values.astype(np.uint8, copy=False), self.table)
        known = np.array(sorted(self.classes))
        labels = np.array([self.classes[value] for value in known.tolist()], np.uint8)
        places = np.searchsorted(known, values).clip(max=len(known) - 1)
        return np.where(known[places] == values, labels[places], np.uint8(_FAULT))

    def _value_fault(self, found: Sequence[int]) -> str:
        wrong = [value for value in found if value not in self.classes]
        more = f' and {len(wrong) - _SHOWN} more' if len(wrong) > _SHOWN else ''
        be = 'is' if len(wrong) == 1 else 'are'
        text = (
            f'holds {", ".join(map(str, wrong[:_SHOWN]))}{more}, which {be} neither among the '
            f'{self.num_classes} classes nor ignored ({IGNORE})'
        )
        return f'{text}. {self._hint(found, wrong)}'

    def _hint(self, found: Sequence[int], wrong: Sequence[int]) -> str:
        """What may help: never a setting under which this file would hold less than two classes."""
        largest = max((value for value in found if value != IGNORE), default=0)
        plain = self.ids is None and not self.reduce_zero_label and self.label_map is None
        if plain and self.num_classes == _CITYSCAPES_CLASSES and 0 <= largest < _CITYSCAPES_IDS:
            return (
                'They look like the labelIds of Cityscapes: tools/prepare_data.py cityscapes ROOT '
                'makes train ids of them'
            )
        from_one = [value for value in found if 1 <= value <= self.num_classes]
        if plain and largest == self.num_classes and len(from_one) > 1:
            return (
                'Classes that count from 1, as in ADE20K, need reduce_zero_label=True in the data '
                'set'
            )
        meant = [value for value in found if value != IGNORE]
        meant = meant if len(meant) == self.num_classes else list(found)
        possible = len(meant) == self.num_classes <= _LISTED and meant[-1] <= LARGEST_ID
        if plain and possible and meant[0] >= 0:
            return (
                f'If these are the values of the {self.num_classes} classes, in their order, give '
                f'ids={meant} in LoadCheckedAnnotations'
            )
        seen = {self.classes[value] for value in found if value in self.classes} - {IGNORE}
        if len(wrong) == 1 and not 0 <= wrong[0] < 256 and len(seen) > 1:
            return f'If it stands for void, give ignore_ids={list(wrong)} in LoadCheckedAnnotations'
        return (
            'Check num_classes, convert the files, or say what their values mean with ids and '
            'ignore_ids of LoadCheckedAnnotations (docs/data.md)'
        )

    def few_classes(self, counts: NDArray[np.int64], names: Sequence[str]) -> str | None:
        """Say that labels give nothing to tell apart, and what may help.

        Args:
            counts: pixels of each class in all of them, `[256]`; the last are ignored.
            names: of the classes.

        Returns:
            None if two classes or more have pixels.
        """
        seen = np.flatnonzero(counts[:IGNORE]).tolist()
        if len(seen) > 1:
            return None
        what = f'class {seen[0]} ({names[seen[0]]})' if seen else 'what is ignored'
        text = f'nothing but {what} occurs'
        if seen and counts[IGNORE]:
            text += ', beside ignored pixels'
        if self.reduce_zero_label and counts[IGNORE]:
            return (
                f'{text}. reduce_zero_label=True ignores the value 0: leave it out where 0 is a '
                'class'
            )
        if self.ids is None and self.num_classes == 2 and counts[IGNORE]:
            return (
                f'{text}. The value 255 is ignored: in masks of black and white, 0 and 255, it is '
                'a class, as ids=[0, 255] in LoadCheckedAnnotations says'
            )
        return f'{text}. Check how the label maps were converted, ids and ignore_ids'
