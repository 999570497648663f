"""In-context segmentation: nearest patches of labeled images vote with their class shares.

Source: open-hummingbird-eval 2.0.0, after "Towards In-context Scene Understanding" (Balazevic et
al., NeurIPS 2023).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

NEIGHBORS = 30
"""k of the published tables."""

TEMPERATURE = 0.02
"""Of the published tables; a neighbor weighs exp(cosine / temperature)."""


def soft_vote(cosine: Tensor, shares: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Class distribution of queries.

    Args:
        cosine: ``[Q, k]``; -inf for no neighbor.
        shares: ``[Q, k, C]`` class shares of the neighbors.
        temperature: Of the softmax over neighbors.

    Returns:
        ``[Q, C]``.
    """
    weights = (cosine / temperature).softmax(1)
    return torch.einsum('qk,qkc->qc', weights, shares.to(weights.dtype))


def label_maps(distributions: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Label maps from the distributions of patches, enlarged bilinearly before the choice.

    Args:
        distributions: ``[B, h * w, C]``.
        grid: h and w.
        size: H and W in pixels.

    Returns:
        ``[B, H, W]`` int64. One image at a time is enlarged, which takes ``C * H * W`` numbers.
    """
    maps = []
    for patches in distributions:
        values = patches.T.reshape(1, -1, *grid)
        enlarged = F.interpolate(values, size, mode='bilinear', align_corners=False)
        maps.append(enlarged.argmax(1))
    return torch.cat(maps)
