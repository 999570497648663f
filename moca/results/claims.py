"""Which runs others are at work on, so that two queues over one folder share the work."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Self

from moca.engine.work_dir import LOCK, InUse, held, holder

CLAIM = '.queue.lock'
"""The file in a work dir that the queue which has started its run holds. The run has a lock of its
own, but only once it has imported everything."""


class Claims:
    """The work dirs that this queue has taken; as a context manager, until its block ends."""

    def __init__(self) -> None:
        self._taken: dict[Path, ExitStack] = {}
        self._told: set[Path] = set()

    def take(self, folder: Path) -> None:
        """Keep other queues from a work dir, which is made; nothing happens if that is done.

        Raises:
            InUse: Another queue has it; the text says so and names its process.
            OSError: Nothing can be written there.
        """
        if folder in self._taken:
            return
        stack = ExitStack()
        try:
            stack.enter_context(held(folder / CLAIM))
        except InUse as error:
            raise InUse(f'another queue is at work on it ({error})') from error
        self._taken[folder] = stack

    def check_idle(self, folder: Path) -> None:
        """Verify that no run is at work in a work dir that was taken; else it is given back.

        A run may outlive its queue, while it saves.

        Raises:
            InUse: One is; the text says so and names its process.
            OSError: The file of its lock cannot be read.
        """
        if (process := holder(folder / LOCK)) is not None:
            self.give_back(folder)
            raise InUse(f'another run is at work on it ({process})')

    def give_back(self, folder: Path) -> None:
        """Leave a work dir to whoever wants it, if it was taken."""
        if (stack := self._taken.pop(folder, None)) is not None:
            stack.close()

    def is_news(self, folder: Path) -> bool:
        """Whether this is asked of a work dir for the first time."""
        new = folder not in self._told
        self._told.add(folder)
        return new

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for folder in [*self._taken]:
            self.give_back(folder)
