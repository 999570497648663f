"""Damage of bytes and of nested content, drawn; and what a refusal has to say."""

from __future__ import annotations

import copy
import json
import random
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from moca.errors import UserError, one_line
from tests.campaign.campaign import Outcome

Draw = random.Random

# Values that anything in JSON or in a config may have instead of the right one.
VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 2, 1.5, 10**30, float('nan'), float('inf')),
    *('', '7', 'é\n', '/', 'None', [], [[1]], [None], {}, {'type': 'X'}, {'a': {'b': 1}}),
)

AGAIN = '_again_'
"""Behind the second name of a field that is doubled, until it is written."""


def garble(data: bytearray, draw: Draw) -> str:
    """Damage bytes in one of some ways, and say in which."""
    kind = draw.choice(('truncated', 'a bit', 'zeros', 'swapped', 'inserted', 'appended'))
    place = draw.randrange(len(data))
    if kind == 'truncated':
        del data[place:]
    elif kind == 'a bit':
        data[place] ^= 1 << draw.randrange(8)
    elif kind == 'zeros':
        data[place : place + 64] = bytes(len(data[place : place + 64]))
    elif kind == 'swapped':
        other = draw.randrange(len(data))
        data[place], data[other] = data[other], data[place]
    elif kind == 'inserted':
        data[place:place] = draw.randbytes(draw.choice((1, 4, 100)))
    else:
        data += draw.randbytes(draw.choice((1, 20, 3000)))
    return kind


def _places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places of all values within dicts and lists."""
    if path:
        yield path
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in items:
        if isinstance(value, dict | list):
            yield from _places(value, (*path, key))
        else:
            yield (*path, key)


def edit(content: Any, draw: Draw) -> str:
    """Drop, rename, double or replace a value somewhere, and say what was done.

    A field of an object that is doubled has `AGAIN` behind its second name: see `write_json`.
    """
    path = draw.choice(list(_places(content)))
    owner = content
    for key in path[:-1]:
        owner = owner[key]
    key = path[-1]
    kind = draw.choice(('dropped', 'another value', 'renamed', 'doubled', 'of another place'))
    if kind == 'dropped':
        del owner[key]
    elif kind == 'doubled' and isinstance(owner, list):
        owner.insert(key, copy.deepcopy(owner[key]))
    elif kind == 'doubled':
        owner[f'{key}{AGAIN}'] = copy.deepcopy(draw.choice(VALUES))
    elif kind == 'renamed' and isinstance(owner, dict):
        owner[f'{key}{draw.choice(("x", "_", "s"))}'] = owner.pop(key)
    elif kind == 'of another place':
        other: Any = content
        for part in draw.choice(list(_places(content))):
            if isinstance(other, dict | list):
                other = other[part] if isinstance(other, list) or part in other else other
        owner[key] = copy.deepcopy(other)
    else:
        kind = 'another value'
        owner[key] = copy.deepcopy(draw.choice(VALUES))
    return kind


def refused(kind: str, error: UserError, path: Path) -> Outcome:
    """What becomes of a case that is refused: one line has to name the file, or its folder."""
    line = one_line(str(error))  # as a tool prints it
    return Outcome(kind, 'refused' if path.name in line else 'unnamed', line)


def broken(kind: str, error: Exception) -> Outcome:
    """What becomes of a case that ends by another error than one of the user.

    Raises:
        Exception: That error, where it is not one of what reads the file but of the campaign.
    """
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    if Path(frame.f_code.co_filename).is_relative_to(Path(__file__).parents[1]):
        raise error
    return Outcome(kind, 'traceback', ''.join(traceback.format_exception(error)))


def write_json(content: Any, path: Path) -> None:
    """Write content in which fields may be doubled."""
    path.write_text(json.dumps(content).replace(AGAIN, ''))
