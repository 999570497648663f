"""The scale-invariant logarithmic loss of depth, with a warm-up."""

from __future__ import annotations

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class SigLoss(nn.Module):
    """Differences of log-depth: their deviation, and a part of their mean.

    With ``g = log(prediction + eps) - log(truth + eps)`` of all valid pixels of a process's batch
    together: ``sqrt(var(g) + 0.15 * mean(g) ** 2)``, the variance unbiased, and without the
    variance in the first steps. Source: facebookresearch/dinov3, eval/depth (its SigLoss), after
    BinsFormer's. mmseg's `SiLogLoss` is another one: by image, with a factor of 0.5.

    Args:
        warmup: steps without the variance; they are counted in the buffer ``steps``, which is in a
            run's checkpoints.
        eps: in meters.
        mean_weight: of the squared mean.
    """

    steps: Tensor

    def __init__(self, warmup: int = 100, eps: float = 1e-3, mean_weight: float = 0.15) -> None:
        super().__init__()
        self.warmup, self.eps, self.mean_weight = warmup, eps, mean_weight
        self.register_buffer('steps', torch.zeros((), dtype=torch.long))

    def forward(self, prediction: Tensor, truth: Tensor, new_step: bool = True) -> Tensor:
        """Return the loss, a scalar; 0 where no pixel is valid.

        Args:
            prediction: depth in meters, any shape.
            truth: likewise; pixels of 0 are not valid.
            new_step: whether the call begins a step; further parts of an accumulated batch do not.
        """
        if new_step:
            self.steps += 1
        valid = truth > 0
        g = torch.log(prediction[valid] + self.eps) - torch.log(truth[valid] + self.eps)
        if not len(g):
            return prediction.sum() * 0
        if self.steps <= self.warmup or len(g) == 1:
            return self.mean_weight**0.5 * g.mean().abs()  # sqrt(x ** 2) has no gradient at 0
        return torch.sqrt(g.var() + self.mean_weight * g.mean() ** 2)
