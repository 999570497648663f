"""An area whose cases end in every way, for tests of the campaign; its imports take no time."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.campaign.campaign import Area, Outcome


class Ends(Area):
    """Fine, an error, a death, fine, a hang, too much memory, less but still too much, slow."""

    name, title = 'ends', 'Ends'
    memory = 64 << 20

    def count(self, quick: bool) -> int:
        """All but the hang and memory."""
        return 3 if quick else 5

    def run(self, number: int, folder: Path) -> Outcome:
        """End in the way of a number."""
        (folder / 'file').touch()
        if number == 1:
            raise ValueError('not promised')
        if number == 2:
            os._exit(7)
        if number == 4:
            time.sleep(60)
        if number == 7:
            time.sleep(1.2)
        if number in (5, 6):
            bytearray(os.urandom(1)) * ((400 - 200 * (number - 5)) << 20)
        return Outcome('fine', 'refused')


class More(Ends):
    """The same as another area."""

    name, title = 'more', 'More'


def end_at_once(*_: object) -> None:
    """Instead of a process that runs cases: one that is gone."""
    os._exit(1)


def say_nothing(*_: object) -> None:
    """Instead of it: one that does not come to its first case."""
    time.sleep(60)
