"""Ids of COCO's tables: whole numbers, whichever way a file writes them.

pycocotools keeps ids in arrays of floats, and its 0 in the place of an annotation's id means "not
found": the object with that id could never be found (cocodataset/cocoapi, PythonAPI/pycocotools/
cocoeval.py, `evaluateImg`: ``dtm[tind,dind] = gt[m]['id']``, later asked whether it is true).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

LARGEST = 2**53  # beyond it a float of 64 bits does not hold every whole number
_MOST_DIGITS = 15

Key = int | str


def id_key(value: Any) -> Key | None:
    """What an id says, as 7, 7.0 and '7' say the same; None if it is no id (null, a list, 1.5)."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if not isinstance(value, str) or not value:
        return None
    digits = value.isascii() and value.isdigit() and len(value) <= _MOST_DIGITS
    return int(value) if digits and str(int(value)) == value else value


def number(keys: Iterable[Key], least: int) -> Mapping[Key, int]:
    """Give each key its number: its own where all are whole, from `least` on, else 1, 2, 3, ...

    A key that occurs again has the number that it had before.
    """
    distinct = dict.fromkeys(keys)
    whole = [key for key in distinct if isinstance(key, int) and least <= key <= LARGEST]
    if len(whole) == len(distinct):
        return dict(zip(whole, whole, strict=True))
    return {key: place for place, key in enumerate(distinct, start=1)}
