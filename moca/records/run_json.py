"""``run.json``, what a run measured, as it is read: its fields, and what else than its protocol."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moca.errors import UserError

RECORD = 'run.json'

TEST_FOLDER = 'test'
"""In a run's folder: the logs of tools/test.py, which are no run of their own."""

TESTED = 'test.json'
"""What tools/test.py has measured, in its work dir."""


def read_record(path: Path) -> dict[str, Any]:
    """A ``run.json``; empty if there is none.

    Raises:
        UserError: it cannot be read.
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(
            f'{path}: cannot be read ({error}). Remove it, or choose another --work-dir.'
        ) from error
    return content if isinstance(content, dict) else {}


# Where a protocol says what it measures.
_MEASURING = ('evaluation', 'model', 'val_dataloader.dataset', 'val_evaluator')

# Fields in there that say where data lie, what they are, or how the same numbers are reached.
_NOT_MEASURING = {
    *('data_root', 'data_prefix', 'ann_file', 'subsets', 'annotations', 'images', 'names'),
    *('num_classes', 'num_things_classes', 'num_stuff_classes', 'metainfo', 'search', 'keep'),
    *('classwise', 'format_only', 'outfile_prefix'),
}

# Fields of the backbone that are of the weights, of training or of memory.
_NOT_OF_PROTOCOL = {
    *('type', 'arch', 'init_cfg', 'interpolation', 'norm_eps'),
    *('drop_path_rate', 'grad_checkpoint'),
}


def changes_of_protocol(cfg_options: Mapping[str, Any], recipe: Mapping[str, Any]) -> str:
    """The ``--cfg-options`` that have a run measure something else than its protocol does.

    Those are of the evaluation, of features and heads, and of the images that are scored. Rates and
    regularization are not: each method has its own, which a sweep chooses. Nor are the weights and
    their architecture, which are in the row's name, and where data lie.

    Args:
        cfg_options: what was given.
        recipe: what the protocol itself asks of a model of this size.

    Returns:
        ``KEY=VALUE``, sorted, with blanks between; nothing if the protocol is as it was.
    """
    given = {key: value for key, value in cfg_options.items() if _is_measuring(key)}
    return ' '.join(
        f'{key}={option_text(value)}'
        for key, value in sorted(given.items())
        if key not in recipe or recipe[key] != value
    )


def _is_measuring(key: str) -> bool:
    parts = key.split('.')
    if not any(f'{key}.'.startswith(f'{place}.') for place in _MEASURING):
        return False
    if parts[:2] == ['model', 'backbone']:
        return not set(parts[2:3]) & _NOT_OF_PROTOCOL
    if parts[:2] == ['model', 'data_preprocessor']:
        return not set(parts[2:3]) & {'mean', 'std'}  # in the record of the checkpoint
    return not set(parts) & _NOT_MEASURING


def option_text(value: Any) -> str:
    """Return a value of ``--cfg-options`` as the command line has it, without blanks."""
    if isinstance(value, list | tuple):
        return f'[{",".join(map(option_text, value))}]'
    return str(value).replace(' ', '')
