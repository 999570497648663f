"""What one process does for all of a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from mmengine.dist import broadcast_object_list, get_rank, get_world_size

from moca.errors import UserError

T = TypeVar('T')


def once_for_all(make: Callable[[], T]) -> T:
    """What the first process makes, on all processes; all of them have to call it.

    Args:
        make: Returns something that can be pickled.

    Raises:
        UserError: On all processes, where `make` raises it on the first; an OSError likewise.
    """
    if get_world_size() == 1:
        return make()
    found: list[Any] = [None]
    if get_rank() == 0:
        try:
            found = [make()]
        except (OSError, UserError) as error:  # the others would wait forever
            found = [error]
    broadcast_object_list(found)
    if isinstance(found[0], OSError | UserError):
        raise found[0]
    made: T = found[0]
    return made
