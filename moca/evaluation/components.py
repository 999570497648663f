"""Principal components of patch features as colors, comparable through a training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moca.errors import UserError

# Components weaker than this share of the features' length stay gray: they are rounding, which is
# all that a collapsed encoder has to show.
FAINT = 1e-3


def principal_scores(maps: Sequence[Tensor]) -> Tensor:
    """Scores of patch features on their first three principal components, of unit variance.

    One basis serves all maps of one backbone, so that like scores mean like features.

    Args:
        maps: Features of several images, each `[C, h, w]`.

    Returns:
        `[N, 3]`, the patches of all maps row by row.

    Raises:
        UserError: if the features have fewer than three dimensions.
    """
    tokens = torch.cat([m.flatten(1).T for m in maps]).float()
    if tokens.shape[1] < 3:
        raise UserError(f'{tokens.shape[1]} features are too few for three principal components.')
    faint = FAINT * tokens.norm().clamp_min(1e-12)
    tokens = tokens - tokens.mean(0)
    directions, strengths, _ = torch.linalg.svd(tokens, full_matrices=False)
    visible = (strengths / faint).clamp_max(1)[:3]
    return directions[:, :3] * visible * len(tokens) ** 0.5


def turned_onto(scores: Tensor, reference: Tensor) -> Tensor:
    """Turn scores so that they come as near as possible to those of another moment in training.

    The sign and the order of principal components are arbitrary, and close ones mix; from one
    moment to the next colors would jump where the features hardly change. The features' own axes
    cannot be compared either, since training turns them. What can be compared is which patches are
    alike; so the three scores of the same patches are rotated (or mirrored) as a whole onto the
    earlier ones (orthogonal Procrustes). No distance between patches changes.

    Args:
        scores: `[N, 3]`.
        reference: `[N, 3]` of the same patches.
    """
    left, _, right = torch.linalg.svd(scores.T @ reference)
    return scores @ (left @ right)


def colors(scores: Tensor, sizes: Sequence[tuple[int, int]]) -> list[NDArray[np.float32]]:
    """Scores as red, green and blue.

    Args:
        scores: `[N, 3]`.
        sizes: Height and width of each map in patches.

    Returns:
        For each map `[h, w, 3]` in 0..1, cut at the 1st and 99th percentile of each component;
        a component without spread is a half.
    """
    low, high = torch.quantile(scores, torch.tensor([0.01, 0.99]), dim=0)
    # by the spread of a visible component at least: what `principal_scores` made faint stays so
    middle, spread = (low + high) / 2, (high - low).clamp_min(1)
    values = ((scores - middle) / spread + 0.5).clamp(0, 1).numpy().astype(np.float32)
    parts = np.split(values, np.cumsum([h * w for h, w in sizes])[:-1])
    return [part.reshape(*size, 3) for part, size in zip(parts, sizes, strict=True)]


def principal_colors(maps: Sequence[Tensor]) -> list[NDArray[np.float32]]:
    """The first three principal components of patch features as red, green and blue.

    Args:
        maps: Features of several images, each `[C, h, w]`.

    Returns:
        `[h, w, 3]` for each; see :func:`principal_scores` and :func:`colors`.
    """
    return colors(principal_scores(maps), [(m.shape[1], m.shape[2]) for m in maps])
