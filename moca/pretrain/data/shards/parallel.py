"""The same work on many files, in threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar('T')
R = TypeVar('R')


def in_threads(function: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """Yield what a function gives for each item, in order; after an error no other is begun.

    Raises:
        Exception: The first that the function raises.
    """
    with ThreadPoolExecutor(threads) as pool:
        try:
            yield from pool.map(function, items)
        except BaseException:  # of the function, or where what is yielded is used
            pool.shutdown(cancel_futures=True)
            raise
