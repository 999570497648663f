"""Features of zero mean and unit deviation in every channel, as CAPI's classifiers take them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_ROWS = 65536  # at a time in double precision


@dataclass(frozen=True)
class Scaler:
    """What is subtracted and divided by, channel by channel.

    Attributes:
        mean: ``[D]`` fp64.
        scale: ``[D]`` fp64, the population deviation; 1 for a channel that is constant, as in
            scikit-learn's ``StandardScaler``.
    """

    mean: Tensor
    scale: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Scaler:
        """The mean and deviation of features ``[N, D]``, in double precision by blocks."""
        blocks = features.split(_ROWS)
        mean = sum((b.double().sum(0) for b in blocks), features.new_zeros((), dtype=torch.double))
        mean = mean / len(features)
        squares = sum(
            ((b.double() - mean).square().sum(0) for b in blocks),
            features.new_zeros((), dtype=torch.double),
        )
        scale = (squares / len(features)).sqrt()
        # what rounding leaves of a constant channel must not be blown up
        constant = scale <= 10 * torch.finfo(features.dtype).eps * mean.abs()
        return cls(mean, torch.where(constant, 1.0, scale))

    def apply(self, features: Tensor) -> Tensor:
        """Standardized features of the same shape and type."""
        mean, scale = self.mean, self.scale
        parts = [((part - mean) / scale).to(features.dtype) for part in features.split(_ROWS)]
        return torch.cat(parts) if parts else features

    def __eq__(self, other: object) -> bool:
        """Whether another scaler does the same to the digit."""
        if not isinstance(other, Scaler):
            return NotImplemented
        return torch.equal(self.mean, other.mean) and torch.equal(self.scale, other.scale)
