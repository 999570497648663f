"""Batch norm whose running statistics lag behind the layers beneath it."""

from __future__ import annotations

import copy
import random
from typing import Any

import numpy as np
import torch
from mmengine.hooks import EMAHook, Hook
from mmengine.registry import HOOKS
from mmengine.runner import IterBasedTrainLoop, Runner
from torch.nn.modules.batchnorm import _BatchNorm

from moca.engine.wrapped import unwrapped
from moca.errors import UserError


@HOOKS.register_module()
class RecomputeBatchNorm(Hook):
    """Measures the statistics of batch norm anew before each validation and the last checkpoint.

    The running mean of a head's batch norm follows a backbone that trains at a distance: over
    short schedules it can lag behind by most of a deviation, and validation, which uses it, scores
    next to nothing on a model that has learnt its training data. Here the statistics are averaged
    over some training batches with the weights as they are, all other layers as in validation. A
    run with it measures another protocol than a source without.

    Args:
        num_batches: training batches to measure on.
    """

    # before the checkpoint of the same step is written
    priority = 'ABOVE_NORMAL'

    def __init__(self, num_batches: int = 16) -> None:
        self.num_batches = num_batches

    def before_train(self, runner: Any) -> None:
        """Refuse what it does not fit.

        Raises:
            UserError: the loop counts epochs, or the weights that are validated are an average.
        """
        if not isinstance(runner.train_loop, IterBasedTrainLoop):
            raise UserError('RecomputeBatchNorm: needs a train_cfg that counts iterations.')
        if any(isinstance(hook, EMAHook) for hook in runner.hooks):
            raise UserError(
                'RecomputeBatchNorm: with averaged weights (--ema) it would measure others than '
                'those validated. Give one of them alone (default_hooks.batch_norm=None).'
            )

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Measure, if a validation comes next."""
        step, loop = runner.iter + 1, runner.train_loop
        due = step >= loop.val_begin and step % loop.val_interval == 0
        if due or step == runner.max_iters:
            self.recompute(runner)

    @torch.no_grad()
    def recompute(self, runner: Any) -> None:
        """Measure the statistics of every batch norm that trains."""
        model = unwrapped(runner.model)
        norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.training]
        if not norms:
            return
        states = _random_states()
        loader = Runner.build_dataloader(
            {
                **runner.cfg.train_dataloader,
                'dataset': runner.train_dataloader.dataset,
                'persistent_workers': False,
            },
            seed=runner.seed,
        )
        seen: set[Any] = set()
        watches = [norm.register_forward_pre_hook(lambda n, _: seen.add(n)) for norm in norms]
        before = [copy.deepcopy(norm.state_dict()) for norm in norms]
        modes = {module: module.training for module in model.modules()}
        momenta = [norm.momentum for norm in norms]
        model.eval()
        for norm in norms:
            norm.train()
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean over all batches
        with runner.optim_wrapper.optim_context(runner.model):
            for number, batch in enumerate(loader, start=1):
                data = model.data_preprocessor(batch, training=True)
                model(**data, mode='tensor')
                if number == self.num_batches:
                    break
        for norm, momentum, state in zip(norms, momenta, before, strict=True):
            norm.momentum = momentum
            if norm not in seen:  # such as an auxiliary head's, which only the loss runs
                norm.load_state_dict(state)
        for watch in watches:
            watch.remove()
        for module, mode in modes.items():
            module.training = mode
        _set_random_states(states)
        runner.logger.info(
            f'Batch norm: statistics of {len(seen)} layers over {number} training batches.'
        )


class NoteBatchNorm(Hook):
    """Tell the metrics of a run whether its model has batch norm, so that they advise on it.

    Metrics with an attribute ``batch_norm`` (bool) are told.
    """

    def before_val(self, runner: Any) -> None:
        """Tell them; mmengine builds metrics before the first validation."""
        found = any(isinstance(module, _BatchNorm) for module in runner.model.modules())
        if any(isinstance(hook, RecomputeBatchNorm) for hook in runner.hooks):
            found = False  # nothing to advise
        for metric in runner.val_loop.evaluator.metrics:
            if hasattr(metric, 'batch_norm'):
                metric.batch_norm = found


def _random_states() -> tuple[Any, ...]:
    return random.getstate(), np.random.get_state(), torch.get_rng_state()


def _set_random_states(states: tuple[Any, ...]) -> None:
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])
