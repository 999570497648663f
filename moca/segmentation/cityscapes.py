"""Cityscapes' label files: from the 34 labelIds of the download to the 19 training classes."""

from __future__ import annotations

from pathlib import Path

import cv2

from moca.errors import UserError
from moca.records.whole_files import write_atomically
from moca.segmentation.label_files import LabelFault, read_values
from moca.segmentation.label_maps import LabelRule

CLASS_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""The labelId of each training class, road to bicycle. Source: cityscapesscripts/helpers/labels.py
(columns id and trainId)."""

IMAGES = {'train': 2975, 'val': 500}
"""Images of the published data set."""

RAW, TRAIN = '_gtFine_labelIds.png', '_gtFine_labelTrainIds.png'

# The other ids are void (unlabeled, ego vehicle, ...) or too rare to be evaluated.
_RULE = LabelRule(
    num_classes=len(CLASS_IDS),
    ids=CLASS_IDS,
    ignore_ids=tuple(i for i in range(34) if i not in CLASS_IDS),
)


def train_ids_path(raw: Path) -> Path:
    """Return the path of the train ids that belong to a labelIds file."""
    return raw.with_name(raw.name.removesuffix(RAW) + TRAIN)


def write_train_ids(raw: Path) -> None:
    """Write the train ids of a labelIds file beside it; the new file appears whole or not at all.

    Raises:
        UserError: if the file is no labelIds map.
    """
    try:
        labels = _RULE.convert(read_values(raw))
    except LabelFault as fault:
        raise UserError(f'{raw}: {fault}. Fetch gtFine_trainvaltest.zip again.') from fault
    done, content = cv2.imencode('.png', labels)
    assert done
    try:
        write_atomically(train_ids_path(raw), content.tobytes())
    except OSError as error:
        raise UserError(f'{train_ids_path(raw)}: cannot be written ({error}).') from error
