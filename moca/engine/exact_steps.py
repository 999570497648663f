"""Runs by iterations that go on bit by bit: what is drawn depends on the seed and the step alone.

Three parts: `ExactSampler` numbers the images that are drawn, `SeedDraws`, first in a pipeline of
mmseg or mmdet, seeds the transforms with that number, and `SeedSteps` seeds what the model draws.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from mmcv.transforms import BaseTransform
from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import DATA_SAMPLERS, HOOKS, TRANSFORMS

from moca.engine.seeding import mixed_seed, seed_all

# Last words of the seeds, so that images and models share no random numbers.
_IMAGES, _STEPS = 1, 2


class Place(int):
    """An image's place in its data set, with the seed of what is drawn for it."""

    seed: int

    def __new__(cls, image: int, seed: int) -> Place:
        place = super().__new__(cls, image)
        place.seed = seed
        return place

    def __reduce__(self) -> Any:
        return Place, (int(self), self.seed)


@DATA_SAMPLERS.register_module()
class ExactSampler(InfiniteSampler):
    """mmengine's `InfiniteSampler`, in the same order, whose places carry a seed of their own."""

    def _indices_of_rank(self) -> Iterator[int]:
        numbered = enumerate(self._infinite_indices())
        for number, image in itertools.islice(numbered, self.rank, None, self.world_size):
            yield Place(image, mixed_seed(self.seed, number, _IMAGES))


@TRANSFORMS.register_module()
class SeedDraws(BaseTransform):
    """Seed the generators of Python, numpy and torch for one image of an `ExactSampler`.

    Images that come otherwise, as those of validation, leave them as they are.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Seed, and hand on what came."""
        place = results.get('sample_idx')
        if isinstance(place, Place):
            seed_all(place.seed)
        return results


@HOOKS.register_module()
class SeedSteps(Hook):
    """Seed the generators before each step: drop-path, random points and the like."""

    priority = 'VERY_HIGH'

    def before_train_iter(self, runner: Any, *_: Any, **__: Any) -> None:
        """Seed by the run's seed, the step and the process."""
        seed_all(mixed_seed(runner.seed or 0, runner.iter, get_rank() + 1, _STEPS))
