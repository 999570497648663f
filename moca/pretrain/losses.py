"""Losses of the pre-training methods, written so that no [tokens, words] tensor survives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# Rows of [rows, words] handled at once: 1024 x 4096 fp32 is 16 MB.
CHUNK_ROWS = 1024

Targets = Callable[[slice], Tensor]


class _ChunkedKL(torch.autograd.Function):
    """Mean KL(target || softmax(scale * features @ prototypes^T)) over rows.

    The gradients are computed beside the loss, chunk by chunk, since everything that they need
    is at hand there; the backward pass only scales them.
    """

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, prototypes: Tensor, targets: Targets, scale: float
    ) -> tuple[Tensor, Tensor]:
        rows = len(features)
        loss = torch.zeros((), dtype=torch.float32, device=features.device)
        entropy = torch.zeros_like(loss)
        grad_features = torch.empty_like(features, dtype=torch.float32)
        grad_prototypes = torch.zeros_like(prototypes, dtype=torch.float32)
        for start in range(0, rows, CHUNK_ROWS):
            part = slice(start, min(start + CHUNK_ROWS, rows))
            chunk = features[part].float()
            log_p = torch.log_softmax(scale * (chunk @ prototypes.float().T), dim=-1)
            q = targets(part)
            # xlogy: a word of probability 0 adds 0, not NaN
            q_log_q = torch.xlogy(q, q)
            entropy -= q_log_q.sum()
            loss += q_log_q.sub_(q * log_p).sum()
            # rows of q sum to one, so d KL / d logits = softmax - q
            residual = log_p.exp_().sub_(q).mul_(scale / rows)
            grad_features[part] = residual @ prototypes.float()
            grad_prototypes += residual.T @ chunk
        ctx.save_for_backward(
            grad_features.to(features.dtype), grad_prototypes.to(prototypes.dtype)
        )
        entropy /= rows
        ctx.mark_non_differentiable(entropy)
        return loss / rows, entropy

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, Tensor, None, None]:
        grad_features, grad_prototypes = ctx.saved_tensors
        return grads[0] * grad_features, grads[0] * grad_prototypes, None, None


def assignment_kl(
    features: Tensor, prototypes: Tensor, targets: Tensor | Targets, scale: float
) -> tuple[Tensor, Tensor]:
    """Mean KL divergence between target assignments and predicted ones.

    It keeps the target's entropy (it is no cross-entropy), so that values compare with the
    released code's logs. Always computed in fp32.

    Args:
        features: Student features, ``[N, D]``, not normalised.
        prototypes: One per word, ``[K, D]``.
        targets: Target assignments ``[N, K]`` whose rows sum to one, or a function that makes
            those of a slice of rows, so that they need not exist all at once.
        scale: kappa, by which the products are multiplied.

    Returns:
        The mean over rows, a scalar, and the mean entropy of the targets in nats, a scalar
        without gradient.
    """
    function: Targets = (lambda part: targets[part]) if isinstance(targets, Tensor) else targets
    with torch.autocast(features.device.type, enabled=False):
        return _ChunkedKL.apply(features, prototypes, function, scale)
