"""Label maps: what their files may hold, and what is wrong with one that holds something else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from moca.errors import UserError

IGNORE = 255
_FAULT = 254
"""What the table maps to where a value means nothing; so there can be no class 254."""

_NO_COLORS = (
    'not class numbers. Write one channel of class numbers; a palette may only say how to show them'
)
_SHOWN = 5  # values named in an error
_CITYSCAPES_CLASSES, _CITYSCAPES_IDS = 19, 34  # train ids 0 to 18, labelIds 0 to 33


class LabelFault(ValueError):
    """The content of a label map is wrong; the text does not name the file."""


@dataclass(frozen=True)
class LabelRule:
    """How the values of a data set's files become classes 0 to `num_classes` - 1 or 255 (ignored).

    Attributes:
        num_classes: of the model's heads.
        reduce_zero_label: in the files 0 is ignored and classes count from 1, as in ADE20K.
        ids: the value of each class in the files, in the order of the classes; None where they are
            the numbers of the classes themselves.
        ignore_ids: values that are ignored, beside 255.
        label_map: mmseg's, from a class of the data set to one of the model's, or to 255.

    Raises:
        UserError: if the parts contradict each other.
    """

    num_classes: int
    reduce_zero_label: bool = False
    ids: tuple[int, ...] | None = None
    ignore_ids: tuple[int, ...] = ()
    label_map: Mapping[int, int] | None = None

    def __post_init__(self) -> None:
        if not 0 < self.num_classes < _FAULT:
            raise UserError(f'num_classes={self.num_classes}: label maps hold 1 to 253 classes.')
        if self.ids is not None and len(self.ids) != self.num_classes:
            raise UserError(f'{len(self.ids)} ids for {self.num_classes} classes: give one each.')
        if self.ids is not None and self.reduce_zero_label:
            raise UserError('ids name the values of the files: leave reduce_zero_label out.')
        wrong = [v for v in (*(self.ids or ()), *self.ignore_ids) if not 0 <= v <= 255]
        if wrong or len(set(self.ids or ())) < len(self.ids or ()):
            raise UserError(f'ids and ignore_ids: different values of 0 to 255 each; not {wrong}.')

    @cached_property
    def table(self) -> NDArray[np.uint8]:
        """Value of a file to class, `[256]`; 254 for a value that means nothing."""
        table = np.full(256, _FAULT, np.uint8)
        given = self.num_classes if self.label_map is None else len(self.label_map)
        first = 1 if self.reduce_zero_label else 0
        values = self.ids or range(first, first + given)
        for number, value in enumerate(values):
            table[value] = number if self.label_map is None else self.label_map[number]
        table[[*self.ignore_ids, IGNORE]] = IGNORE
        if self.reduce_zero_label:
            table[0] = IGNORE
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
            raise LabelFault(f'holds colors ({shape}), {_NO_COLORS}')
        if size is not None and values.shape != tuple(size):
            raise LabelFault(_size_fault(values.shape, size))
        if values.dtype.kind not in 'bui':
            raise LabelFault(f'holds values of type {values.dtype}, not class numbers')
        if values.size and not 0 <= values.min() <= values.max() <= 255:
            raise LabelFault(self._value_fault(np.unique(values)))
        values = values.astype(np.uint8, copy=False)
        labels = cv2.LUT(values, self.table)
        if (labels == _FAULT).any():
            raise LabelFault(self._value_fault(np.unique(values)))
        return labels

    def _value_fault(self, found: NDArray[Any]) -> str:
        known = set(np.flatnonzero(self.table != _FAULT).tolist())
        wrong = [value for value in found.tolist() if value not in known]
        more = f' and {len(wrong) - _SHOWN} more' if len(wrong) > _SHOWN else ''
        text = (
            f'holds {", ".join(map(str, wrong[:_SHOWN]))}{more}, which are neither among the '
            f'{self.num_classes} classes nor ignored ({IGNORE})'
        )
        return f'{text}. {self._hint(found)}'

    def _hint(self, found: NDArray[Any]) -> str:
        largest = max((value for value in found.tolist() if value != IGNORE), default=0)
        plain = self.ids is None and not self.reduce_zero_label
        if plain and self.num_classes == _CITYSCAPES_CLASSES and largest < _CITYSCAPES_IDS:
            return (
                'They look like the labelIds of Cityscapes: tools/prepare_data.py cityscapes ROOT '
                'makes train ids of them'
            )
        if plain and largest == self.num_classes:
            return (
                'Classes that count from 1, as in ADE20K, need reduce_zero_label=True in the data '
                'set'
            )
        return (
            'Check num_classes, convert the files, or say what their values mean with ids and '
            'ignore_ids of LoadCheckedAnnotations (docs/data.md)'
        )


def _size_fault(found: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    """Say that a label map is of another size than its image; both are (height, width)."""
    return (
        f'is {found[1]} x {found[0]}, its image {wanted[1]} x {wanted[0]} (width x height): is '
        'it the label map of another image, or was one of the two resized?'
    )


def header_fault(label: Path, image: Path) -> str | None:
    """What the headers of a label map and its image tell to be wrong, without decoding either.

    A kind of file that Pillow does not know is passed over.
    """
    try:
        with Image.open(label) as file:
            mode, size = file.mode, file.size
    except OSError:
        return None
    if mode not in ('1', 'L', 'P') and not mode.startswith(('I', 'F')):
        return f'holds colors ({mode}), {_NO_COLORS}'
    wanted = image_size(image)
    found = (size[1], size[0])
    return _size_fault(found, wanted) if wanted and found != wanted else None


def image_size(path: Path) -> tuple[int, int] | None:
    """Height and width of an image as it is loaded, turned as its EXIF data say; None if unknown.

    Source: EXIF 2.3, tag 0x0112 (orientation); 5 to 8 stand for a quarter turn.
    """
    try:
        with Image.open(path) as file:
            width, height = file.size
            turned = file.getexif().get(0x0112, 1) >= 5
    except OSError:
        return None
    return (width, height) if turned else (height, width)


def one_channel(values: NDArray[Any]) -> NDArray[Any]:
    """Drop the third axis of a decoded label map `[H, W, 1]`."""
    return values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values


def read_values(path: Path) -> NDArray[Any]:
    """The content of a label map as `LoadCheckedAnnotations` reads it by default.

    Raises:
        LabelFault: if it cannot be read.
    """
    try:
        with Image.open(path) as file:
            return one_channel(np.asarray(file))
    except (OSError, SyntaxError, ValueError) as error:
        raise LabelFault(f'cannot be read as a label map ({error})') from error
