"""The command line that measures again what a run has measured."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from moca.records.config_values import read_literals
from moca.records.run_json import option_text

# Fields of a record's checkpoint, and the options of tools/train.py that set them.
_OPTIONS = {
    'path': '--checkpoint',
    'name': '--name',
    'prefix': '--prefix',
    'patch': '--patch',
    'mean': '--mean',
    'std': '--std',
}


def command_of(record: Mapping[str, Any], config: str, text: str = '') -> str:
    """Return a command of ``tools/train.py`` by what ``run.json`` says of a run.

    All other options (``--subset``, ``--amp``, ``--epochs``, ``--data-root`` ...) have changed the
    config that lies in the run's folder: that one is run again. So have ``--cfg-options``, which
    are given all the same: by them the new record says what is not as in the protocol.

    Args:
        record: Content of ``run.json``.
        config: Path of the config in the run's folder.
        text: Its content, which says how the checkpoint was read where the record does not:
            ``--delta-of``, ``--grid`` and ``--trust``.

    Example:
        >>> command_of({'checkpoint': {'path': 'a b.pth', 'branch': 'teacher'}, 'seed': 1}, 'x.py')
        "python tools/train.py x.py --checkpoint 'a b.pth' --branch teacher --seed 1 --work-dir NEW"
    """
    checkpoint = _mapping(record.get('checkpoint'))
    words = ['python', 'tools/train.py', config]
    if checkpoint.get('path'):
        for name, option in _OPTIONS.items():
            value = checkpoint.get(name)
            if value is not None:
                several = isinstance(value, Sequence) and not isinstance(value, str)
                words += [option, *(map(str, value) if several else [str(value)])]
        words += _reading(text)
    if checkpoint.get('branch') in ('teacher', 'student'):  # others have only one
        words += ['--branch', checkpoint['branch']]
    if record.get('seed') is not None:
        words += ['--seed', str(record['seed'])]
    options = _mapping(_mapping(record.get('options')).get('cfg_options'))
    given = [f'{key}={option_text(value)}' for key, value in options.items()]
    words += ['--work-dir', 'NEW', *(['--cfg-options', *given] if given else [])]
    return shlex.join(words)


def _reading(config: str) -> list[str]:
    """The options of a checkpoint that only the config of its run keeps."""
    model = _mapping(read_literals(config).get('model'))
    how = _mapping(_mapping(model.get('backbone')).get('init_cfg'))
    words = ['--delta-of', str(how['delta_of'])] if how.get('delta_of') else []
    grid = how.get('grid')
    if isinstance(grid, Sequence) and not isinstance(grid, str):
        words += ['--grid', *map(str, grid)]
    return [*words, '--trust'] if how.get('trust') is True else words


def _mapping(value: Any) -> Mapping[str, Any]:
    """What a record holds in a place; nothing where it is of another kind."""
    return value if isinstance(value, Mapping) else {}
