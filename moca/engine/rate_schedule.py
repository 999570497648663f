"""Learning rates of image classification as functions of the step."""

from __future__ import annotations

import math
from typing import Any

from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.registry import HOOKS

from moca.engine.accumulate import images_per_step
from moca.engine.wrapped import unwrapped
from moca.errors import UserError

BATCH = 256
"""Images that a base rate belongs to, in MAE, DINO, iBOT and MOCA alike."""


def epoch_rate(
    epoch: float, peak: float, epochs: float, warmup: float = 0.0, lowest: float = 0.0
) -> float:
    """Linear from 0 to ``peak`` over ``warmup`` epochs, then half a cosine to ``lowest``.

    Source: facebookresearch/mae, util/lr_sched.py.

    Args:
        epoch: Epochs done so far, with fractions.
        peak: Rate at the end of the warm-up.
        epochs: Length of the training.
        warmup: Epochs.
        lowest: Rate at the end.
    """
    if epoch < warmup:
        return peak * epoch / warmup
    share = (epoch - warmup) / (epochs - warmup)
    return lowest + (peak - lowest) * 0.5 * (1 + math.cos(math.pi * share))


@HOOKS.register_module()
class RateSchedule(Hook):
    """Sets every group's rate before each step; a resumed run needs no state.

    ``optim_wrapper.optimizer.lr`` is the rate of 256 images: it is multiplied by the images of a
    step over 256, processes and accumulation included. What a group's rate is of it when the
    optimizer is built (layer decay, a head's own rate) it stays, of ``min_lr`` too.

    The model's ``seed`` and ``step`` are set as well, from which it draws its random numbers.

    Args:
        warmup_epochs: Linear warm-up from 0.
        min_lr: What the cosine ends in, of a group at full rate; not multiplied by the batch.
        per_epoch: One rate an epoch, as DINO and iBOT have it, instead of one a step.

    Raises:
        UserError: The warm-up is as long as the training.
    """

    # before the hook that logs the learning rate
    priority = 'HIGHEST'

    def __init__(
        self, warmup_epochs: float = 0.0, min_lr: float = 0.0, per_epoch: bool = False
    ) -> None:
        self.warmup_epochs, self.min_lr, self.per_epoch = warmup_epochs, min_lr, per_epoch
        self._scales: list[float] | None = None

    def before_run(self, runner: Any) -> None:
        """Note the groups' shares, before a checkpoint brings rates of another step."""
        wrapper = runner.optim_wrapper
        if isinstance(wrapper, OptimWrapper) and self._scales is None:
            base = runner.cfg.optim_wrapper.optimizer.lr
            self._scales = [group['lr'] / base for group in wrapper.param_groups]

    def before_train(self, runner: Any) -> None:
        """Work out the peak for this run's batch and length."""
        loop = runner.train_loop
        if self.warmup_epochs >= loop.max_epochs:
            raise UserError(
                f'RateSchedule.warmup_epochs={self.warmup_epochs} is no shorter than the training '
                f'of {loop.max_epochs} epochs (train_cfg.max_epochs).'
            )
        batch = images_per_step(runner)
        base = runner.cfg.optim_wrapper.optimizer.lr
        self._epochs, self._steps = loop.max_epochs, loop.steps
        self.peak = base * batch / BATCH
        runner.logger.info(
            f'{self._epochs} epochs of {self._steps} steps of {batch} images: lr {base:g} of '
            f'{BATCH} images becomes {self.peak:g}'
            + (f', after {self.warmup_epochs:g} epochs of warm-up' if self.warmup_epochs else '')
        )
        unwrapped(runner.model).seed = runner.seed

    def before_train_iter(
        self, runner: Any, batch_idx: int, data_batch: dict[str, Any] | None = None
    ) -> None:
        """Set the rates of step ``runner.iter``."""
        assert self._scales is not None
        epoch = runner.iter / self._steps
        if self.per_epoch:
            epoch = float(runner.iter // self._steps)
        rate = epoch_rate(epoch, self.peak, self._epochs, self.warmup_epochs, self.min_lr)
        for group, scale in zip(runner.optim_wrapper.param_groups, self._scales, strict=True):
            group['lr'] = scale * rate
        unwrapped(runner.model).step = runner.iter
