"""Checks of a method's numbers, which name the field of the config that they come from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from moca.errors import UserError


def check_number(value: Any, field: str) -> float:
    """The value, if it is a finite number.

    Raises:
        UserError: It is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f'{field}={value!r}: give a number.')
    return value


def check_weight(value: Any, field: str) -> float:
    """A loss's weight or another factor, if it is one.

    Raises:
        UserError: It is no finite number from 0 up.
    """
    if check_number(value, field) < 0:
        raise UserError(f'{field}={value}: give a number from 0 up.')
    return float(value)


def check_positive(value: Any, field: str) -> float:
    """A temperature or another divisor, if it is one.

    Raises:
        UserError: It is no finite number above 0.
    """
    if check_number(value, field) <= 0:
        raise UserError(f'{field}={value}: give a number above 0.')
    return float(value)


def check_count(value: Any, field: str) -> int:
    """A batch, a width or another number of things, if it is one.

    Raises:
        UserError: It is no whole number from 1 up.
    """
    if not isinstance(value, int) or value < 1:
        raise UserError(f'{field}={value!r}: give a whole number from 1 up.')
    return value


def check_share(value: Any, field: str) -> float:
    """The share of tokens that is hidden, if it is one.

    Raises:
        UserError: It is no number from 0 up to, but not, 1.
    """
    if not 0 <= check_number(value, field) < 1:
        raise UserError(f'{field}={value}: give a share from 0 up to, but not, 1.')
    return float(value)


def check_pair(values: Any, field: str, of: str) -> Sequence[float]:
    """Two shares, if they are.

    Args:
        values: A list or tuple.
        field: Where it comes from.
        of: What has one each, for the message: ``the strong and the weak view``.

    Raises:
        UserError: They are not two, or one is no share.
    """
    if not isinstance(values, list | tuple) or len(values) != 2:
        raise UserError(f'{field}={values!r}: give two, for {of}.')
    return [check_share(value, field) for value in values]
