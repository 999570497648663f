"""``--cfg-options`` of several runs: ``KEY=VALUE`` for all, ``NAME:KEY=VALUE`` for one of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from moca.errors import UserError


def check_owners(cfg_options: Sequence[str], names: Collection[str], what: str) -> None:
    """Verify that every ``NAME:KEY=VALUE`` is of something that runs.

    Args:
        cfg_options: as the command line has them.
        names: what may stand in front.
        what: what they are called in a message, such as ``config of this race``.

    Raises:
        UserError: naming the option.
    """
    for option in cfg_options:
        name = owner(option)
        if name and name not in names:
            raise UserError(
                f'--cfg-options {option}: no {what} is called {name!r}, they are '
                f'{", ".join(names)}.'
            )


def options_of(names: Collection[str], cfg_options: Sequence[str]) -> list[str]:
    """The ``KEY=VALUE`` of one run: those of all first, so that its own win.

    Args:
        names: what it is called.
        cfg_options: as the command line has them.
    """
    own = [o.removeprefix(f'{owner(o)}:') for o in cfg_options if owner(o) in names]
    return [*(option for option in cfg_options if not owner(option)), *own]


def owner(option: str) -> str:
    """The name before the last colon of the key, empty if there is none."""
    return option.partition('=')[0].rpartition(':')[0]
