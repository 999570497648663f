"""Gradient accumulation: one step of the optimizer on a batch taken in several parts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import get_world_size
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from mmengine.registry import LOOPS
from mmengine.runner import IterBasedTrainLoop
from torch import Tensor, nn

from moca.engine.distributed import launched_processes
from moca.engine.prefetch import Prefetched
from moca.engine.workers import count_waiting
from moca.engine.wrapped import unwrapped
from moca.errors import UserError


def accumulation_of(runner: Any) -> int:
    """Return the number of micro-batches that a run splits its batch into.

    Raises:
        UserError: ``optim_wrapper.accumulative_counts`` is no positive whole number.
    """
    # a runner made by hand has no such config, perhaps a wrapper already built
    wrapper = runner.cfg.get('optim_wrapper') or runner.optim_wrapper
    if isinstance(wrapper, OptimWrapper):
        return wrapper._accumulative_counts
    count = wrapper.get('accumulative_counts', 1)
    if not isinstance(count, int) or count < 1:
        raise UserError(f'optim_wrapper.accumulative_counts={count!r}: give a whole number, 1 up.')
    return count


def set_accumulation(cfg: Config, accumulate: str) -> None:
    """Apply ``--accumulate``: a number of parts, or ``auto`` to reach the recipe's batch.

    Args:
        cfg: The run's; ``auto_scale_lr.base_batch_size`` is the recipe's batch over all
            processes, ``launcher`` is set.
        accumulate: ``'auto'`` or a whole number.

    Raises:
        UserError: It is neither; or the recipe's batch is unknown or no multiple of what all
            processes hold at a time.
    """
    processes = world_size_of(cfg)
    count = number_of_parts(cfg, accumulate, processes)
    cfg.optim_wrapper.accumulative_counts = count
    if cfg.train_cfg.get('type') == 'IterBasedTrainLoop':
        cfg.train_cfg.type = 'AccumulatingIterLoop'
    batch = cfg.train_dataloader.batch_size
    print_log(
        f'--accumulate: a step takes {count} x {batch} images of {processes} processes.',
        'current',
    )


def number_of_parts(cfg: Config, accumulate: str, processes: int) -> int:
    """Return the number of micro-batches for a number of processes; see `set_accumulation`."""
    if accumulate == 'auto':
        return _parts_of_recipe(cfg, processes)
    if accumulate.isdecimal() and int(accumulate) > 0:
        return int(accumulate)
    raise UserError(f'--accumulate {accumulate}: give auto or a whole number from 1 up.')


def _parts_of_recipe(cfg: Config, processes: int) -> int:
    recipe = (cfg.get('auto_scale_lr') or {}).get('base_batch_size')
    if not recipe:
        raise UserError(
            '--accumulate auto: the config does not name the batch of its recipe. Give a number '
            'of parts, or --cfg-options auto_scale_lr.base_batch_size=N.'
        )
    at_once = cfg.train_dataloader.batch_size * processes
    count, rest = divmod(recipe, at_once)
    if rest or not count:
        fitting = [n for n in range(1, recipe + 1) if recipe % (n * processes) == 0]
        nearest = min(fitting, key=lambda n: abs(n - cfg.train_dataloader.batch_size), default=None)
        raise UserError(
            f"--accumulate auto: the recipe's batch of {recipe} is no multiple of "
            f'{cfg.train_dataloader.batch_size} images x {processes} processes. '
            + (
                f'Give --cfg-options train_dataloader.batch_size={nearest}.'
                if nearest
                else f'Use a number of processes that divides {recipe}.'
            )
        )
    return count


def world_size_of(cfg: Config) -> int:
    """Processes of a run that has not begun, by the environment of its launcher."""
    return launched_processes(cfg.get('launcher', 'none'))


def images_per_step(runner: Any) -> int:
    """Images of one iteration of a runner's training loop, over all processes."""
    loader = runner.train_dataloader
    # a loader that is given a batch sampler, as mmdet's are, has no size of its own
    at_once = loader.batch_size or loader.batch_sampler.batch_size
    return at_once * get_world_size() * getattr(runner.train_loop, 'accumulate', 1)


def step_facts(runner: Any) -> dict[str, int]:
    """What a checkpoint notes of a step, to be compared when the run is resumed."""
    return {'images_per_step': images_per_step(runner), 'processes': get_world_size()}


def train_on_parts(
    runner: Any, first: dict[str, Any], others: Iterator[dict[str, Any]], count: int
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Take one step of the optimizer on ``count`` batches, which count as one.

    Only one of them is in memory at a time. The optimizer's wrapper divides each loss by their
    number, steps at the last and shares gradients among processes only then.

    Args:
        runner: Its model's attribute ``part``, if there is one, is set to (number, count).
        first: The first batch.
        others: At least ``count - 1`` more; if `Prefetched`, the next one of them, which may be of
            the next step, is asked for as soon as a part has been launched.
        count: ``optim_wrapper.accumulative_counts``.

    Returns:
        What the model reports, averaged over the parts that report it, and the batch; of several
        parts only what they say of their images: the one-dimensional tensors and the lists of
        samples, joined.
    """
    method = unwrapped(runner.model)
    outputs: list[dict[str, Tensor]] = []
    about: list[dict[str, Any]] = []
    batch, waited = first, 0.0
    for number in range(count):
        if hasattr(method, 'part'):
            method.part = (number, count)
        outputs.append(runner.model.train_step(batch, optim_wrapper=runner.optim_wrapper))
        if count > 1:
            about.append({key: value for key, value in batch.items() if _is_list(key, value)})
        since = time.perf_counter()
        if isinstance(others, Prefetched):
            others.ahead()
        if number + 1 < count:
            batch = next(others)
        waited += time.perf_counter() - since
    count_waiting(runner.message_hub, waited)
    if count == 1:
        return outputs[0], batch
    return (
        {name: torch.stack(values).mean(0) for name, values in _by_name(outputs).items()},
        {key: _join([part[key] for part in about]) for key in about[0]},
    )


def _by_name(outputs: list[dict[str, Tensor]]) -> dict[str, list[Tensor]]:
    values: dict[str, list[Tensor]] = {}
    for name, value in chain.from_iterable(part.items() for part in outputs):
        values.setdefault(name, []).append(value)
    return values


def _is_list(key: str, value: object) -> bool:
    return key == 'data_samples' or (isinstance(value, Tensor) and value.ndim == 1)


def _join(parts: list[Any]) -> Any:
    return torch.cat(parts) if isinstance(parts[0], Tensor) else list(chain(*parts))


@LOOPS.register_module()
class AccumulatingIterLoop(IterBasedTrainLoop):
    """mmengine's loop over iterations, each of which is a step of the optimizer.

    mmengine counts batches: with ``accumulative_counts=N`` all lengths, milestones and intervals of
    a recipe would have to be multiplied by N. Here a step takes N batches of the loader, and they
    stay as they are; every checkpoint lies between two steps.
    """

    def __init__(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(runner, *args, **kwargs)
        self.accumulate = accumulation_of(runner)
        skip = self.dataloader_iterator.skip_iter
        # on resuming
        self.dataloader_iterator.skip_iter = lambda steps: skip(steps * self.accumulate)

    def run(self) -> nn.Module:
        """Train to the last step."""
        # counted in batches there, in steps here
        self.runner.optim_wrapper.initialize_count_status(
            self.runner.model, self._iter * self.accumulate, self._max_iters * self.accumulate
        )
        return super().run()

    def run_iter(self, data_batch: dict[str, Any]) -> None:
        """One step of the optimizer; hooks get its first batch before, its samples after it."""
        self.runner.call_hook('before_train_iter', batch_idx=self._iter, data_batch=data_batch)
        outputs, samples = train_on_parts(
            self.runner, data_batch, self.dataloader_iterator, self.accumulate
        )
        self.runner.call_hook(
            'after_train_iter', batch_idx=self._iter, data_batch=samples, outputs=outputs
        )
        self._iter += 1
