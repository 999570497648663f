"""How models and results show themselves at Python's prompt: what they are, on a few lines."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

_NAMES = 3
"""How many names of classes are shown."""


def brief(value: Any) -> str:
    """An array by its type and shape, names by their number and the first ones, others as they are.

    Example:
        >>> brief(np.zeros((2, 3), np.uint8))
        'uint8 [2, 3]'
        >>> brief(('wall', 'building', 'sky', 'floor'))
        '4 (wall, building, sky ...)'
    """
    if isinstance(value, np.ndarray):
        return f'{value.dtype} {list(value.shape)}'
    if isinstance(value, tuple) and all(isinstance(each, str) for each in value):
        more = ' ...' if len(value) > _NAMES else ''
        return f'{len(value)} ({", ".join(value[:_NAMES])}{more})' if value else '0'
    return str(value)


def listed(what: object, **fields: Any) -> str:
    """The class of an object and a line for each field that is not None, as torch shows modules."""
    lines = (f'  {name}: {brief(value)}' for name, value in fields.items() if value is not None)
    return '\n'.join([f'{type(what).__name__}(', *lines, ')'])


class Brief:
    """A data class of arrays that shows their types and shapes."""

    def __repr__(self) -> str:
        fields: Any = dataclasses.fields(self)  # type: ignore[arg-type]
        shown = (f'{field.name}={brief(getattr(self, field.name))}' for field in fields)
        return f'{type(self).__name__}({", ".join(shown)})'
