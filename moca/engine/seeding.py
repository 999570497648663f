"""Random numbers as a function of seed, step and process, so that a resumed run draws the same."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from mmengine.dist import get_rank


def own_generator(
    seed: int, step: int, device: torch.device, stream: int | None = None
) -> torch.Generator:
    """Return this process's generator of random numbers for one step.

    Args:
        seed: Seed of the run.
        step: Step of the optimizer.
        device: Device that the numbers are drawn on.
        stream: Streams of one step are independent of each other.
    """
    streams = () if stream is None else (stream,)
    return torch.Generator(device).manual_seed(mixed_seed(seed, step, get_rank() + 1, *streams))


def mixed_seed(*numbers: int) -> int:
    """Mix whole numbers from 0 up into one 63-bit seed; near ones give unrelated seeds."""
    # their count as well: numpy takes (1, 2) and (1, 2, 0) for the same
    sequence = np.random.SeedSequence((len(numbers), *numbers))
    return int(sequence.generate_state(1, np.uint64)[0] >> 1)


def seed_all(seed: int) -> None:
    """Seed the global generators of Python, numpy and torch, from 0 up."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators of Python, numpy and torch, and restore them afterwards.

    For code that draws from those alone, such as timm's augmentations.

    Args:
        seed: From 0 up.
    """
    python, array, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    on_gpu = torch.cuda.is_available() and torch.cuda.is_initialized()
    gpu = torch.cuda.get_rng_state() if on_gpu else None
    seed_all(seed)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(array)
        torch.set_rng_state(cpu)
        if gpu is not None:
            torch.cuda.set_rng_state(gpu)
