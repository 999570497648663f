"""What a run that goes on does otherwise than it did so far."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from moca.engine.config_text import read_literals

# How a run is started, and not what it does.
_STARTING = (
    *('work_dir', 'resume', 'load_from', 'launcher', 'experiment_name', 'log_level'),
    *('env_cfg', 'model_wrapper_cfg'),
)
_SHOWN = 6  # changes in the message
_ABSENT = object()


def warn_of_changes(runner: Any, checkpoint: Mapping[str, Any]) -> None:
    """Log the fields in which a run that is resumed differs from what its checkpoint says.

    Longer training, another rate or other data may be meant; but a short trial in the same folder
    would be gone on with as well.

    Args:
        runner: mmengine's, with the config of the run that goes on.
        checkpoint: As it was loaded; ``meta.cfg`` is the text of the config that wrote it.
    """
    text = (checkpoint.get('meta') or {}).get('cfg')
    changes = changed_fields(read_literals(text), runner.cfg.to_dict()) if text else []
    if changes:
        more = f' and {len(changes) - _SHOWN} more' if len(changes) > _SHOWN else ''
        runner.logger.warning(
            'The checkpoint to go on from was written under other settings, which now change: '
            f'{", ".join(changes[:_SHOWN])}{more}. Where that is not meant, give those of that '
            'run, or another --work-dir.'
        )


def changed_fields(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """``field: before -> now`` of every value that differs, in the order of the fields' names."""
    before, after = (
        dict(_leaves({key: value for key, value in fields.items() if key not in _STARTING}))
        for fields in (earlier, now)
    )
    return [
        f'{field}: {_short(before.get(field, _ABSENT))} -> {_short(after.get(field, _ABSENT))}'
        for field in sorted(before.keys() | after.keys())
        if before.get(field, _ABSENT) != after.get(field, _ABSENT)
    ]


def _leaves(node: Any, name: str = '') -> Iterator[tuple[str, Any]]:
    """Dotted names and values; a list is as good as a tuple."""
    if isinstance(node, Mapping) and node:
        inner = list(node.items())
    elif isinstance(node, list | tuple) and any(isinstance(item, Mapping) for item in node):
        inner = list(enumerate(node))
    else:
        if name:
            yield name, list(node) if isinstance(node, tuple) else node
        return
    for key, value in inner:
        yield from _leaves(value, f'{name}.{key}' if name else str(key))


def _short(value: Any) -> str:
    text = 'absent' if value is _ABSENT else repr(value)
    return text if len(text) <= 60 else f'{text[:20]}...{text[-37:]}'  # paths differ at their ends
