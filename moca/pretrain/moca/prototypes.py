"""Prototype generators: from the words of the codebook to the weights of a classifier."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moca.pretrain.moca.codebook import NORM_EPS


class PrototypeGenerator(nn.Module):
    """Makes one prototype per codebook word, so that new words need no new weights.

    L2-norm -> Linear (no bias) -> BatchNorm over the words -> ReLU -> Linear, plus a skip, then
    L2-norm. Paper: section 3.2; sizes from the released code.

    Args:
        dim: Width of a word.
        out_dim: Width of the features that the prototypes are compared with.
        mlp_ratio: Hidden width over ``dim``; 2.
    """

    def __init__(self, dim: int, out_dim: int, mlp_ratio: float = 2.0) -> None:
        super().__init__()
        hidden = int(dim * mlp_ratio)
        self.fc = nn.Linear(dim, hidden, bias=False)
        self.bn = nn.BatchNorm1d(hidden)
        self.out = nn.Linear(hidden, out_dim)
        self.skip: nn.Module = nn.Identity() if dim == out_dim else nn.Linear(dim, out_dim)

    def forward(self, words: Tensor) -> Tensor:
        """Words ``[K, dim]`` to unit prototypes ``[K, out_dim]``."""
        words = F.normalize(words, dim=1, eps=NORM_EPS)
        prototypes = self.out(F.relu(self.bn(self.fc(words)))) + self.skip(words)
        return unit_rows(prototypes.float())


def unit_rows(x: Tensor) -> Tensor:
    """L2-normalize the rows of ``[K, D]``, fp32: `F.normalize` with a third of its memory."""
    return _UnitRows.apply(x)


class _UnitRows(torch.autograd.Function):
    """Keeps for its backward pass the result alone, which is needed anyway, and a column."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=1, keepdim=True)
        unit = x / norm.clamp(min=NORM_EPS)
        ctx.save_for_backward(unit, norm)
        return unit

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        unit, norm = ctx.saved_tensors
        # along the row a longer x changes nothing, unless it is so short that it is not normalized
        along = (grads[0] * unit).sum(1, keepdim=True) * (norm > NORM_EPS)
        return torch.addcmul(grads[0], unit, along, value=-1).div_(norm.clamp(min=NORM_EPS))
