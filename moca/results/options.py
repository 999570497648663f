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
        stranger = option.partition('=')[0].rpartition(':')[0]
        if stranger and _owner(option, names) is None:
            raise UserError(
                f'--cfg-options {option}: no {what} is called {stranger!r}, they are '
                f'{", ".join(names)}.'
            )


def options_of(
    names: Collection[str], cfg_options: Sequence[str], others: Collection[str] = ()
) -> list[str]:
    """The ``KEY=VALUE`` of one run: those of all first, so that its own win.

    Args:
        names: what it is called.
        cfg_options: as the command line has them.
        others: what other runs are called.
    """
    known = [*names, *others]
    own, shared = [], []
    for option in cfg_options:
        owner = _owner(option, known)
        if owner is None:
            shared.append(option)
        elif owner in names:
            own.append(option[len(owner) + 1 :])
    return [*(option for option in shared if not _stranger(option)), *own]


def _stranger(option: str) -> bool:
    """Whether an option is of a run that is not among those known here."""
    return ':' in option.partition('=')[0]


def _owner(option: str, names: Collection[str]) -> str | None:
    """The longest of the names that stands before a colon in front of the option."""
    found = [name for name in names if option.startswith(f'{name}:')]
    return max(found, key=len, default=None)
