"""Schedules of published recipes that mmengine's cannot express."""

from __future__ import annotations

import math
from typing import Any

from mmengine.optim.scheduler.lr_scheduler import LRSchedulerMixin
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
