"""Which patches of an image go into a bank that is too small for all of them.

Source: open-hummingbird-eval 2.0.0, after "Towards In-context Scene Understanding" (Balazevic et
al., NeurIPS 2023), section 3.2: patches of classes that are rare in their image come first.
"""

from __future__ import annotations

import torch
from torch import Tensor


def rows_per_image(memory: int | None, images: int, patches: int) -> int | None:
    """How many patches of each image a bank takes.

    Args:
        memory: Rows of the bank; None keeps every patch.
        images: How often an image is read, over all epochs.
        patches: Of an image.

    Returns:
        None for every patch without sampling; else at least 1 and at most `patches`. (Of
        Cityscapes a bank of 1024 * 10^4 rows would take 1721 of 1024 patches.)
    """
    return None if memory is None else min(max(memory // images, 1), patches)


def scarcity(shares: Tensor) -> Tensor:
    """How common the classes of each patch are in its image.

    Args:
        shares: ``[B, N, C]`` of the N patches of images.

    Returns:
        ``[B, N]``: the sum, over the classes present in a patch, of how many patches of its image
        contain the class.
    """
    present = (shares > 0).to(shares.dtype)
    return torch.einsum('bnc,bc->bn', present, present.sum(1))


def sample_scarce(shares: Tensor, uniform: Tensor, count: int) -> Tensor:
    """Choose patches at random, those of scarce classes more likely.

    Args:
        shares: ``[B, N, C]``; patches without any class are chosen last.
        uniform: ``[B, N]`` random numbers of 0 to 1.
        count: K, of each image.

    Returns:
        ``[B, K]`` numbers of patches, the smallest product of scarcity and random number first.
    """
    score = scarcity(shares) * uniform
    score = score.masked_fill((shares == 0).all(2), float('inf'))
    return score.topk(count, dim=1, largest=False, sorted=True).indices
