"""Checks of numbers in a config, which name the field that they come from."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from moca.errors import UserError

T = TypeVar('T')


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


def check_count(value: Any, field: str, lowest: int = 1) -> int:
    """A batch, a width or another number of things, if it is one.

    Raises:
        UserError: It is no whole number from `lowest` up.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
        raise UserError(f'{field}={value!r}: give a whole number from {lowest} up.')
    return value


def check_switch(value: Any, field: str) -> bool:
    """What is on or off, if it is: any other word, ``no`` among them, would be taken for on.

    Raises:
        UserError: It is neither True nor False.
    """
    if not isinstance(value, bool):
        raise UserError(f'{field}={value!r}: give True or False.')
    return value


def check_each(
    values: Any, field: str, check: Callable[[Any, str], T], least: int = 1
) -> tuple[T, ...]:
    """Several values, if they are.

    Args:
        values: A list or tuple; one value alone is none, nor is a word, which has letters.
        field: Where it comes from.
        check: Of one value and the field.
        least: How many there have to be.

    Raises:
        UserError: They are no list, too few, or one of them is refused.
    """
    if not isinstance(values, list | tuple) or len(values) < least:
        raise UserError(f'{field}={values!r}: give a list of {least} or more, such as "[1,2]".')
    return tuple(check(value, field) for value in values)


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
