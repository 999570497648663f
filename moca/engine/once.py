"""What one process does for all of a run."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any, TypeVar

import torch.distributed as dist
from mmengine.dist import broadcast_object_list, get_rank, get_world_size

from moca.errors import UserError

T = TypeVar('T')

_LONGEST = 1.0  # seconds between two looks [our choice: nothing beside what is waited for]
_calls = itertools.count()


def once_for_all(make: Callable[[], T]) -> T:
    """What the first process makes, on all processes; all of them have to call it.

    It may take longer than a collective may (10 minutes with NCCL): a first look at terabytes does.

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
    _wait_for_first()
    broadcast_object_list(found)
    if isinstance(found[0], OSError | UserError):
        raise found[0]
    made: T = found[0]
    return made


def _wait_for_first() -> None:
    """Wait without a collective until the first process has come here as well.

    Raises:
        RuntimeError: The processes' store is gone, and its host with it.
    """
    store = dist.PrefixStore('moca/once', dist.distributed_c10d._get_default_store())
    key, pause = str(next(_calls)), 0.01
    if get_rank() == 0:
        store.set(key, '')
        return
    while not store.check([key]):
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST)
