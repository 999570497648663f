"""The classes of a segmentation data set: names and colors that mmseg would stumble over later."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.fileio import list_from_file

from moca.engine.config_check import arguments_of
from moca.errors import UserError

_OLD_FIELDS = {
    'img_dir': "data_prefix=dict(img_path='...')",
    'ann_dir': "data_prefix=dict(seg_map_path='...')",
    'split': "ann_file='...'",
    'classes': 'metainfo=dict(classes=...)',
    'palette': 'metainfo=dict(palette=...)',
    'ignore_index': 'ignore_ids of LoadCheckedAnnotations',
}
"""Fields of data sets in mmseg 0.x or of people's own, and what stands for them."""


def class_names(dataset: dict[str, Any], cls: Any, field: str) -> list[str]:
    """Return the names of a data set's classes, after a check of names, colors and old fields.

    Args:
        dataset: its config.
        cls: its class, of mmseg.
        field: what to call it in messages.

    Raises:
        UserError: naming the field that is wrong, and what to write instead.
    """
    known = arguments_of(cls)
    for old, new in _OLD_FIELDS.items():
        if old in dataset and known is not None and old not in known:
            raise UserError(f'{field}.{old}: {cls.__name__} has no such field. Write {new}.')
    own = list(cls.METAINFO.get('classes') or ())
    metainfo = dataset.get('metainfo') or {}
    names = _listed(metainfo.get('classes'), f'{field}.metainfo.classes') or own
    if not names:
        raise UserError(
            f'{field}: {cls.__name__} does not know its classes. Name them: '
            "metainfo=dict(classes=('road', 'car', ...))."
        )
    if own and (unknown := [name for name in names if name not in own]):
        raise UserError(
            f'{field}: {cls.__name__} has classes of its own and none called '
            f"{', '.join(map(repr, unknown[:3]))}. For classes of yours set type='BaseSegDataset', "
            'with img_suffix and seg_map_suffix as your files end.'
        )
    _check_palette(metainfo.get('palette'), names, own, f'{field}.metainfo.palette')
    return names


def _listed(given: Any, field: str) -> list[str]:
    """The names that `metainfo.classes` gives, itself or in the file that it names."""
    if isinstance(given, str):
        if not Path(given).is_file():  # mmengine would take each letter for a class
            raise UserError(
                f'{field}={given!r} is one text, and no file of names, one a line. Write a tuple: '
                f'a single name has a comma behind it, ({given!r},).'
            )
        field, given = f'{given} ({field})', list_from_file(given)
    names = list(given or ())
    wrong = [name for name in names if not isinstance(name, str) or not name.strip()]
    if wrong:
        raise UserError(f'{field}: {wrong[0]!r} is no name of a class. Remove it.')
    if names and names[0].startswith('\ufeff'):
        raise UserError(f'{field}: begins with a byte order mark. Save it as UTF-8 without one.')
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UserError(f'{field}: {twice[0]!r} occurs twice. Give each class a name of its own.')
    return names


def _check_palette(palette: Any, names: Sequence[str], own: Sequence[str], field: str) -> None:
    if not palette:
        return
    # mmseg takes from a palette of all classes those of the chosen ones
    counts = {len(names), len(own)} if own and list(names) != list(own) else {len(names)}
    if len(palette) not in counts:
        raise UserError(
            f'{field}: {len(palette)} colors for {len(names)} classes. Give one each, or none: '
            'colors are then chosen.'
        )
    for color in palette:
        if len(color) != 3 or not all(0 <= value <= 255 for value in color):
            raise UserError(f'{field}: {color} is no color. Give red, green and blue, 0 to 255.')
