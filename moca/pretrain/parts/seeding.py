"""Random numbers that are a function of seed, step and process, so that a run can be resumed."""

from __future__ import annotations

import torch
from mmengine.dist import get_rank


def own_generator(
    seed: int, step: int, device: torch.device, stream: int | None = None
) -> torch.Generator:
    """Random numbers of this process for one step.

    Args:
        seed: Of the run.
        step: Of the optimizer.
        device: Of the numbers.
        stream: Numbers of different streams of a step are independent of each other.
    """
    streams = () if stream is None else (stream,)
    return torch.Generator(device).manual_seed(mixed_seed(seed, step, get_rank() + 1, *streams))


def mixed_seed(*numbers: int) -> int:
    """One 63-bit seed from several numbers, such that near ones give unrelated seeds."""
    state = 0
    for number in numbers:
        # one round of splitmix64
        state = (state + number + 0x9E3779B97F4A7C15) % 2**64
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB % 2**64
        state ^= state >> 31
    return state >> 1
