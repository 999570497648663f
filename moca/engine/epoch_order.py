"""The order in which a run sees its images, epoch by epoch.

A sample depends on (seed, epoch, image) alone: `EpochShuffle` draws the order of an epoch and
hands each image out as a `Draw`, which carries the three numbers to whichever worker makes the
sample. Nothing has to be replayed to go on from the middle of an epoch.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sized
from typing import NamedTuple

import numpy as np
from mmengine.dist import get_dist_info, sync_random_seed
from mmengine.registry import DATA_SAMPLERS
from torch.utils.data import Sampler

# Last word of the generators' seeds, so that the order and the samples share no random numbers.
_ORDER_STREAM, _VIEWS_STREAM = 1, 2


class Draw(NamedTuple):
    """One sample of a run: which image, in which epoch, under which seed."""

    image: int
    epoch: int = 0
    seed: int = 0

    def generator(self) -> np.random.Generator:
        """The source of everything random in this sample."""
        return np.random.default_rng((self.seed, self.epoch, self.image, _VIEWS_STREAM))


@DATA_SAMPLERS.register_module()
class EpochShuffle(Sampler[Draw]):
    """This process's share of each epoch's order, which is a function of (seed, epoch) alone.

    Every process gets equally many images: the remainder of the division by the number of
    processes is left out, another one in each epoch, and so is what does not fill a group of
    ``group`` images. To be used with ``drop_last=True`` and `ExactEpochLoop`, which sets seed,
    epoch, position and group.

    Args:
        dataset: Only its length is used, and its ``shuffled(rng)`` if it has one: an order of its
            images, where not any permutation will do.
        seed: The same in all processes; None agrees on one.
    """

    def __init__(self, dataset: Sized, seed: int | None = None) -> None:
        self.seed = sync_random_seed() if seed is None else seed
        self.epoch = 0
        self._images = len(dataset)
        self._shuffled = getattr(dataset, 'shuffled', None)
        self._rank, self._world_size = get_dist_info()
        self._skipped = 0
        # images of one step of the optimizer in this process
        self.group = 1
        # that the next iteration goes through, so that workers make the first batches of one while
        # the last of the one before are trained on
        self.epochs = 1

    def __len__(self) -> int:
        """Samples of a whole epoch in this process, wherever the iteration starts."""
        return self._images // self._world_size // self.group * self.group

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration, from its beginning."""
        self.epoch = epoch
        self._skipped = 0

    def skip(self, samples: int) -> None:
        """Start the next iteration after that many samples of this process."""
        self._skipped = samples

    def __iter__(self) -> Iterator[Draw]:
        first, skipped = self.epoch, self._skipped
        return itertools.chain.from_iterable(
            self._draws(first + number, 0 if number else skipped) for number in range(self.epochs)
        )

    def _draws(self, epoch: int, skipped: int) -> Iterator[Draw]:
        rng = np.random.default_rng((self.seed, epoch, _ORDER_STREAM))
        order = self._shuffled(rng) if self._shuffled else rng.permutation(self._images)
        order = order[: len(self) * self._world_size]
        mine = order[self._rank :: self._world_size][skipped:]
        return (Draw(image, epoch, self.seed) for image in mine.tolist())
