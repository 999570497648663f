"""The tables of a COCO annotation file: JSON of the right shape, or a message that says why not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from moca.errors import UserError

Row = dict[str, Any]

_NEEDED = {
    'images': ('id', 'height', 'width'),
    'categories': ('id', 'name'),
    'annotations': ('id', 'image_id', 'category_id', 'bbox', 'area'),
}
_SHAPE = "It needs 'images' with file_name, 'annotations' and 'categories' with name."


def read_tables(
    path: Path, needed: Mapping[str, Sequence[str]] = _NEEDED, kind: str = 'instances'
) -> dict[str, list[Row]]:
    """Read images, categories and annotations; of a file without annotations, none.

    Args:
        path: Of the file.
        needed: The tables, each with the fields that every row has to have.
        kind: Of the file, for messages.

    Raises:
        UserError: The file is no JSON, or lacks a table or a field that every row has to have.
    """
    no_file = f'{path}: not a COCO {kind} file'
    try:
        content = json.loads(path.read_bytes())  # UTF-8, -16 or -32, with a byte order mark or not
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror}).') from error
    except RecursionError as error:
        raise UserError(f'{no_file} (too deeply nested).') from error
    except ValueError as error:
        reason = ' '.join(str(error).split())
        raise UserError(f'{no_file}: no JSON, or cut short ({reason}). {_SHAPE}') from error
    if not isinstance(content, dict):
        raise UserError(
            f'{no_file}: {_kind(content)} at the top, where an object '
            f'with names is needed. {_SHAPE}'
        )
    tables: dict[str, list[Row]] = {}
    for name, keys in needed.items():
        table = content.get(name)
        if table is None and name == 'annotations':
            table = []
        if not isinstance(table, list):
            what = f'is {_kind(table)}' if name in content else 'is absent'
            raise UserError(f"{no_file}: '{name}' {what}. {_SHAPE}")
        for place, row in enumerate(table):
            if not isinstance(row, dict):
                raise UserError(f'{path}: {name}[{place}] is {_kind(row)}, not an object.')
            absent = [key for key in keys if key not in row]
            if absent:
                raise UserError(f'{path}: {name}[{place}] has no {", ".join(absent)}.')
        tables[name] = table
    return tables


def _kind(value: Any) -> str:
    names = {dict: 'an object', list: 'a list', str: 'a text', bool: 'a truth value'}
    return 'null' if value is None else names.get(type(value), 'a number')
