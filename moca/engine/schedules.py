"""Schedules of published recipes that mmengine's cannot express."""

from __future__ import annotations

import math
from typing import Any

from mmengine.optim.scheduler.lr_scheduler import LRSchedulerMixin
from mmengine.optim.scheduler.momentum_scheduler import MomentumSchedulerMixin
from mmengine.optim.scheduler.param_scheduler import _ParamScheduler
from mmengine.registry import PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class WarmupCosineLR(LRSchedulerMixin, _ParamScheduler):
    """DINOv3's one-cycle schedule of linear segmentation, with all of its cycle in the warm-up.

    Step s of T has ``lr / 2 * (1 + cos(pi * (s + 1) / T))``, but during the warm-up of W steps
    ``lr * (1 - (1 - s / W) * (1 - ratio)) * (1 - s / T)``: the cosine has run as long when the
    warm-up ends. Source: facebookresearch/dinov3, eval/segmentation/schedulers.py
    (WarmupOneCycleLR) with the arguments of config-ade20k-linear-training.yaml (pct_start 0,
    final_div_factor inf). The source repeats its first step once; here it does not.

    Args:
        optimizer: as mmengine's schedulers take it.
        warmup: W, in steps.
        ratio: of the first step's rate to what it would be without a warm-up.
        args, kwargs: of mmengine's schedulers; ``begin=0`` and ``end`` = T belong to it.
    """

    def __init__(
        self, optimizer: Any, *args: Any, warmup: int = 0, ratio: float = 1e-6, **kwargs: Any
    ) -> None:
        self.warmup, self.ratio = warmup, ratio
        super().__init__(optimizer, *args, **kwargs)

    def _get_value(self) -> list[float]:
        return [rate * self._share(self.last_step) for rate in self.base_values]

    def _share(self, step: int) -> float:
        total = self.end - self.begin
        if step < self.warmup:
            linear = 1 - (1 - step / self.warmup) * (1 - self.ratio)
            return linear * (1 - step / total)
        return (1 + math.cos(math.pi * min(step + 1, total) / total)) / 2


def depth_rate(step: int, total: int, warmup: int) -> float:
    """The share of its peak that the learning rate of DINOv3's linear depth has.

    Source: facebookresearch/dinov3, eval/depth (WarmupOneCycleLR): in the warm-up of W steps a
    thousandth, and ``(1 + cos(pi * t / T)) / 2 * t / W`` more; then a cosine, as far as it has
    come by then, from 1 to 1/25,000 at the last step.

    Args:
        step: t, from 0.
        total: T.
        warmup: W.
    """
    if step < warmup:
        return 1e-3 + (1 + math.cos(math.pi * step / total)) / 2 * step / warmup
    lowest = 1 / 25_000
    return lowest + (1 - lowest) * (1 + math.cos(math.pi * (step + 1) / total)) / 2


def depth_momentum(step: int, total: int, warmup: int) -> float:
    """Adam's first beta beside `depth_rate`: 0 in the warm-up, then from .85 to .95 by a cosine."""
    if step < warmup:
        return 0.0
    share = (step - warmup) / (total - warmup)
    return 0.95 - 0.1 * (1 + math.cos(math.pi * share)) / 2


@PARAM_SCHEDULERS.register_module()
class DepthRate(LRSchedulerMixin, _ParamScheduler):
    """The learning rate of linear depth, `depth_rate` of the optimizer's own.

    Args:
        optimizer: as mmengine's schedulers take it.
        warmup: the share of all steps that warms up; a recipe that is shortened keeps it.
        args, kwargs: of mmengine's schedulers; ``begin=0`` and ``end`` = T belong to it.
    """

    def __init__(self, optimizer: Any, *args: Any, warmup: float, **kwargs: Any) -> None:
        self.warmup = warmup
        super().__init__(optimizer, *args, **kwargs)

    def _get_value(self) -> list[float]:
        total = self.end - self.begin
        share = depth_rate(self.last_step, total, round(self.warmup * total))
        return [rate * share for rate in self.base_values]


@PARAM_SCHEDULERS.register_module()
class DepthMomentum(MomentumSchedulerMixin, _ParamScheduler):
    """Adam's first beta of linear depth, `depth_momentum`; arguments as those of `DepthRate`."""

    def __init__(self, optimizer: Any, *args: Any, warmup: float, **kwargs: Any) -> None:
        self.warmup = warmup
        super().__init__(optimizer, *args, **kwargs)

    def _get_value(self) -> list[float]:
        total = self.end - self.begin
        beta = depth_momentum(self.last_step, total, round(self.warmup * total))
        return [beta for _ in self.base_values]
