"""The hooks that a config names: those of ``default_hooks``, and the user's ``custom_hooks``.

The suite's own hooks have names in ``default_hooks`` (``schedule``, ``corrupt``, ``knn``,
``features`` and so on), which merge field by field through ``_base_`` and ``--cfg-options``.
``custom_hooks`` is a list that a derived config replaces as a whole; it is left to users.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def named_hooks(cfg: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the field and the config of every hook, of ``default_hooks`` first.

    Hooks that are given as objects have no config and are passed over.
    """
    for name, hook in (cfg.get('default_hooks') or {}).items():
        if isinstance(hook, dict):
            yield f'default_hooks.{name}', hook
    for number, hook in enumerate(cfg.get('custom_hooks') or []):
        if isinstance(hook, dict):
            yield f'custom_hooks.{number}', hook


def find_hook(cfg: Mapping[str, Any], *types: str) -> tuple[str, dict[str, Any]] | None:
    """The field and the config of the first hook of one of these types, or None."""
    return next(((field, h) for field, h in named_hooks(cfg) if h.get('type') in types), None)


def set_hook(cfg: Any, name: str, **fields: Any) -> None:
    """Add a hook to ``default_hooks``, or change the fields of the one that there is.

    One of the same type in ``custom_hooks``, where configs used to have it, is changed there.

    Args:
        cfg: A config, which is changed.
        name: In ``default_hooks``.
        fields: Of the hook; its ``type`` among them.
    """
    found = find_hook(cfg, fields['type'])
    if found is not None:
        found[1].update(fields)
        return
    cfg.default_hooks = {**(cfg.get('default_hooks') or {}), name: fields}
