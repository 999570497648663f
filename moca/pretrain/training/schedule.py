"""Learning rate, weight decay and teacher momentum as functions of the step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from moca.engine.accumulate import images_per_step
from moca.engine.hooks import find_hook
from moca.engine.ranges import check_positive, check_weight
from moca.engine.wrapped import unwrapped
from moca.errors import UserError
from moca.pretrain.data.on_device import send_bytes


def warmup_cosine(step: float, peak: float, warmup: float, end: float) -> float:
    """Linear from 0 to ``peak`` over ``warmup`` steps, then cosine to 0 at step ``end``."""
    if step < warmup:
        return peak * step / warmup
    return 0.5 * peak * (1 + math.cos(math.pi * (step - warmup) / (end - warmup)))


def cosine_between(step: float, start: float, final: float, end: float) -> float:
    """Half a cosine from ``start`` at step 0 to ``final`` at step ``end``."""
    return final + 0.5 * (start - final) * (1 + math.cos(math.pi * step / end))


def check_pretraining(cfg: Config, source: str | Path) -> None:
    """Verify that a config is one of pre-training.

    Raises:
        UserError: it has no length in epochs or no schedule of ours.
    """
    if not find_hook(cfg, 'PretrainSchedule') or not (cfg.get('train_cfg') or {}).get('max_epochs'):
        raise UserError(
            f'{source}: no config of pre-training such as those of configs/pretrain (default_hooks '
            'has no PretrainSchedule). Configs of segmentation and detection are for '
            'tools/train.py.'
        )


def check_options(options: Iterable[str]) -> None:
    """Refuse ``--cfg-options`` that a `PretrainSchedule` writes over at every step.

    Args:
        options: Their dotted fields.

    Raises:
        UserError: One is; names what to set instead.
    """
    if 'optim_wrapper.optimizer.lr' in options:
        raise UserError(
            '--cfg-options optim_wrapper.optimizer.lr: the schedule sets the rate at every step. '
            'Set that of a batch of 256, default_hooks.schedule.base_lr.'
        )


def set_epochs(cfg: Config, epochs: int) -> None:
    """Make a run longer or shorter; the warm-up keeps its share of the run (our choice).

    Raises:
        UserError: ``epochs`` is below 1.
    """
    if epochs < 1:
        raise UserError(f'--epochs {epochs}: give at least 1.')
    if found := find_hook(cfg, 'PretrainSchedule'):
        found[1]['warmup_epochs'] *= epochs / cfg.train_cfg.max_epochs
    cfg.train_cfg.max_epochs = epochs


@HOOKS.register_module()
class PretrainSchedule(Hook):
    """Set every step's learning rate, weight decay and teacher momentum before it runs.

    The method's ``seed`` becomes the run's, its ``step`` and ``momentum`` are set as well.

    All are functions of the step, not of what came before, so a resumed run needs no state.
    Parameter groups marked ``constant`` (see :func:`.optim.parameter_groups`) keep
    their learning rate and weight decay.

    Args:
        base_lr: Learning rate for 256 images; the rate is ``base_lr * batch / 256`` over all
            processes. MOCA and MAE: 1.5e-4.
        warmup_epochs: Linear warm-up. MOCA: 30 of 200.
        stretch: The cosine reaches zero at ``int(stretch * epochs)``, after the end of training.
            MOCA: 1.25.
        final_weight_decay: Cosine from the optimizer's weight decay to this one; None keeps it
            constant. MOCA v0.9: None, v1.0: .20.
        momentum: Teacher momentum at the start, cosine to 1 at the end. MOCA v0.9: .990,
            v1.0: .994. None for methods without a teacher.

    Raises:
        UserError: A number is out of its range, or the warm-up as long as the training; the method
            has a teacher and there is no ``momentum``; the views are not as many as the method
            takes, or its ``check_batch`` refuses the batch, by when ``part`` says in how many parts
            it comes.
    """

    # before the hook that logs the learning rate
    priority = 'HIGHEST'

    def __init__(
        self,
        base_lr: float = 1.5e-4,
        warmup_epochs: float = 30,
        stretch: float = 1.25,
        final_weight_decay: float | None = None,
        momentum: float | None = 0.99,
    ) -> None:
        self.base_lr = check_positive(base_lr, 'PretrainSchedule.base_lr')
        self.warmup_epochs = check_weight(warmup_epochs, 'PretrainSchedule.warmup_epochs')
        self.stretch = check_positive(stretch, 'PretrainSchedule.stretch')
        if stretch < 1:
            raise UserError(f'PretrainSchedule.stretch={stretch} is below 1: lr would rise again.')
        if final_weight_decay is not None:
            check_weight(final_weight_decay, 'PretrainSchedule.final_weight_decay')
        self.final_weight_decay = final_weight_decay
        if momentum is not None and check_weight(momentum, 'PretrainSchedule.momentum') > 1:
            raise UserError(f'PretrainSchedule.momentum={momentum} is not within [0, 1].')
        self.momentum = momentum

    def check_teacher(self, method: Any) -> None:
        """Refuse a teacher that would stay as it began.

        Raises:
            UserError: Naming the field.
        """
        if self.momentum is None and getattr(method, 'teacher', None) is not None:
            raise UserError(
                f'PretrainSchedule.momentum=None, but {type(method).__name__} has a teacher, which '
                'would never change. Give the momentum that it begins with, such as .99.'
            )

    def before_train(self, runner: Any) -> None:
        """Turn epochs into steps and the batch into the peak learning rate."""
        clip = runner.cfg.optim_wrapper.get('clip_grad') or {}
        if clip.get('max_norm', 1) <= 0:
            raise UserError(
                f'optim_wrapper.clip_grad.max_norm={clip["max_norm"]} would make every gradient '
                'zero. To clip nothing, set optim_wrapper.clip_grad=None.'
            )
        method = unwrapped(runner.model)
        self.check_teacher(method)
        method.seed = runner.train_dataloader.sampler.seed
        loop = runner.train_loop
        self.steps: int = loop.max_iters
        per_epoch = loop.max_iters / loop.max_epochs
        batch = images_per_step(runner)
        views = getattr(runner.train_dataloader.dataset, 'views', None)
        check_views(method, views)
        send_bytes(method, views)
        if hasattr(method, 'part'):
            method.part = (0, getattr(loop, 'accumulate', 1))
        if hasattr(method, 'num_images'):
            method.num_images = len(runner.train_dataloader.dataset)
        if hasattr(method, 'check_batch'):
            method.check_batch(batch, getattr(views, 'size', None))
        self.peak = self.base_lr * batch / 256
        self.warmup = self.warmup_epochs * per_epoch
        self.end = int(self.stretch * loop.max_epochs) * per_epoch
        if self.warmup >= self.steps:
            raise UserError(
                f'PretrainSchedule.warmup_epochs={self.warmup_epochs} is no shorter than the '
                f'training of {loop.max_epochs} epochs (train_cfg.max_epochs).'
            )
        # the groups' own weight decay is read here, before the schedule touches it; after a
        # resume the optimizer holds a scheduled value, the config still the first one
        self.weight_decay = check_weight(
            runner.cfg.optim_wrapper.optimizer.get('weight_decay', 0.0),
            'optim_wrapper.optimizer.weight_decay',
        )
        runner.logger.info(
            f'{self.steps} steps of {batch} images: lr {self.peak:.3g} after '
            f'{self.warmup:.0f} steps of warm-up, '
            f'{warmup_cosine(self.steps, self.peak, self.warmup, self.end):.3g} at the end'
        )

    def before_train_iter(
        self, runner: Any, batch_idx: int, data_batch: dict[str, Any] | None = None
    ) -> None:
        """Set the values of step ``runner.iter``."""
        step = runner.iter
        rate = warmup_cosine(step, self.peak, self.warmup, self.end)
        for group in runner.optim_wrapper.param_groups:
            if group.get('constant'):
                continue
            group['lr'] = rate
            if self.final_weight_decay is not None and group['weight_decay'] > 0:
                group['weight_decay'] = cosine_between(
                    step, self.weight_decay, self.final_weight_decay, self.steps
                )
        if self.final_weight_decay is not None:
            decay = max(group['weight_decay'] for group in runner.optim_wrapper.param_groups)
            runner.message_hub.update_scalar('train/weight_decay', decay)
        model = unwrapped(runner.model)
        model.step = step
        if self.momentum is not None:
            model.momentum = cosine_between(step, self.momentum, 1.0, self.steps)


def check_views(method: Any, views: Any) -> None:
    """Refuse data of fewer or more views than the method takes.

    Args:
        method: Of pre-training.
        views: An `AugmentedViews`, or whatever else a data set has.

    Raises:
        UserError: Naming both numbers.
    """
    wanted = getattr(method, 'num_views', None)
    recipes = getattr(views, 'recipes', None)
    if wanted is not None and recipes is not None and len(recipes) != wanted:
        raise UserError(
            f'train_dataloader.dataset.views.views has {len(recipes)} views, '
            f'{type(method).__name__} takes {wanted}.'
        )
