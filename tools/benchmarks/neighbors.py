"""How long exact neighbors take, beside rows of the whole similarity matrix, and their memory."""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from moca.errors import UserError
from moca.evaluation.extraction import PART
from moca.evaluation.neighbors import Neighbors

CHUNK = 500
"""Queries at a time of the plain way, which holds the whole bank; as MOCA's and DINO's scripts."""


@dataclass(frozen=True)
class NeighborsSpeed:
    """What a search needs.

    Attributes:
        seconds: Of ours, wall time.
        cpu_seconds: Of ours, of all cores.
        plain_seconds: Wall time of the plain way on the queries that it was given.
        plain_queries: How many those were.
        added: Bytes that the peak memory of the process (on a GPU, of the allocator) grew by
            beyond queries and bank parts, while ours ran.
        equal: Whether both found the same similarities, to 1e-5.
    """

    seconds: float
    cpu_seconds: float
    plain_seconds: float
    plain_queries: int
    added: int
    equal: bool


def measure_neighbors(
    rows: int,
    queries: int,
    width: int,
    k: int,
    device: torch.device,
    plain_queries: int = 2 * CHUNK,
) -> NeighborsSpeed:
    """Search generated features, the bank part by part as an evaluation has it.

    Args:
        rows: Of the bank.
        queries: How many.
        width: Of features.
        k: Neighbors.
        device: Where to search.
        plain_queries: How many of the queries the plain way searches for as well, at most.

    Raises:
        UserError: A number is not above 0, or k is above the rows of the bank.
    """
    if min(rows, queries, width, k) < 1 or k > rows:
        raise UserError('--rows, --queries, --width and --k: give numbers above 0, k up to rows.')
    asked = _unit(queries, width, 0, device)
    found = Neighbors(asked, k)
    before = _peak(device)
    start, cpu = time.perf_counter(), time.process_time()
    for number, first in enumerate(range(0, rows, PART), 1):
        part = _unit(min(PART, rows - first), width, number, device)
        found.add(part, torch.zeros(len(part), dtype=torch.long, device=device))
    _wait(device)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    added = _peak(device) - before
    bank = torch.cat(
        [
            _unit(min(PART, rows - first), width, number, device)
            for number, first in enumerate(range(0, rows, PART), 1)
        ]
    )
    some = asked[:plain_queries]
    start = time.perf_counter()
    plain = torch.cat([(chunk @ bank.T).topk(k, dim=1).values for chunk in some.split(CHUNK)])
    _wait(device)
    plain_seconds = time.perf_counter() - start
    equal = bool((plain - found.cosine[: len(some)]).abs().max() < 1e-5)
    return NeighborsSpeed(seconds, cpu_seconds, plain_seconds, len(some), added, equal)


def _unit(rows: int, width: int, seed: int, device: torch.device) -> Tensor:
    generator = torch.Generator(device).manual_seed(seed)
    return F.normalize(torch.randn(rows, width, generator=generator, device=device), dim=1)


def _peak(device: torch.device) -> int:
    if device.type == 'cuda':
        return torch.cuda.max_memory_allocated(device)
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _wait(device: torch.device) -> None:
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
