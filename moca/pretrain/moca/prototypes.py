"""Prototype generators: from the words of the codebook to the weights of a classifier."""

from __future__ import annotations

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
        return F.normalize(prototypes.float(), dim=1, eps=NORM_EPS)
