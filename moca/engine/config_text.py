"""The text of a config, formatted once instead of with every checkpoint.

mmengine asks for it at a run's start, for each visualization backend and whenever a checkpoint is
saved, and formats it anew each time: half a second to two seconds for the configs of this project,
which is longer than saving a small model takes.
"""

from __future__ import annotations

from collections.abc import Callable

from mmengine.config import Config

_KEPT = 8
"""Texts that are kept; a process seldom has more configs than these [our choice]."""

_make_text: Callable[[Config], str] = Config.pretty_text.fget
_formatted: dict[str, str] = {}


def plain_text(cfg: Config) -> str:
    """Write a config as Python code, one line for each field of the top level."""
    wanted = cfg._format_python_code
    object.__setattr__(cfg, '_format_python_code', False)  # `Config` would take it for a field
    try:
        return _make_text(cfg)
    finally:
        object.__setattr__(cfg, '_format_python_code', wanted)


def pretty_text(cfg: Config) -> str:
    """Write a config as formatted Python code; each text is formatted once in a process."""
    plain = plain_text(cfg)
    if not cfg._format_python_code:
        return plain
    if plain not in _formatted:
        if len(_formatted) >= _KEPT:
            _formatted.clear()
        _formatted[plain] = _make_text(cfg)
    return _formatted[plain]


def format_once() -> None:
    """Let every config of this process keep its text."""
    Config.pretty_text = property(pretty_text)
