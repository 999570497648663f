"""Losses of the pre-training methods, written so that no [tokens, words] tensor survives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

# Bytes of one [rows, words] tensor in fp32 that exists at a time. CPU: what its caches hold, and
# small beside a step of any size. Elsewhere: enough rows to keep the device busy.
CHUNK_BYTES = {'cpu': 4 << 20}
_CHUNK_BYTES_ELSEWHERE = 128 << 20


def rows_at_once(device: torch.device, words: int) -> int:
    """How many rows of ``words`` fp32 numbers to handle at a time on a device; at least 1."""
    return max(1, CHUNK_BYTES.get(device.type, _CHUNK_BYTES_ELSEWHERE) // (4 * words))


@contextmanager
def tf32_under_autocast(device: torch.device) -> Iterator[None]:
    """No autocast, but where it was on, products of fp32 matrices may round their inputs to TF32.

    Sums and results stay fp32. On a CPU nothing is rounded; without autocast the user's own
    `torch.set_float32_matmul_precision` holds.
    """
    before = torch.get_float32_matmul_precision()
    if torch.is_autocast_enabled(device.type) and before == 'highest':
        torch.set_float32_matmul_precision('high')
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


class _ChunkedKL(torch.autograd.Function):
    """Weighted sum over rows of KL(target || softmax(scale * features @ prototypes^T)).

    The gradients are computed beside the loss, chunk by chunk, since everything that they need
    is at hand there; the backward pass only scales them.
    """

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        prototypes: Tensor,
        targets: Iterable[Tensor],
        scale: float,
        weights: Tensor,
    ) -> tuple[Tensor, Tensor]:
        loss = torch.zeros((), dtype=torch.float32, device=features.device)
        entropy = torch.zeros_like(loss)
        grad_features = torch.empty_like(features, dtype=torch.float32)
        grad_prototypes = torch.zeros_like(prototypes, dtype=torch.float32)
        full_prototypes = prototypes.float()
        end = 0
        for q in targets:
            part = slice(end, end + len(q))
            end += len(q)
            chunk, weight = features[part].float(), weights[part]
            buffer = (chunk @ full_prototypes.T).mul_(scale)
            log_p = torch.log_softmax(buffer, dim=-1)
            # xlogy: a word of probability 0 adds 0, not NaN
            negative_entropies = torch.xlogy(q, q, out=buffer).sum(-1)
            entropy -= weight @ negative_entropies
            loss += weight @ (negative_entropies - torch.mul(q, log_p, out=buffer).sum(-1))
            # rows of q sum to one, so d KL / d logits = softmax - q
            residual = log_p.exp_().sub_(q).mul_(scale * weight[:, None])
            torch.mm(residual, full_prototypes, out=grad_features[part])
            grad_prototypes.addmm_(residual.T, chunk)
        ctx.save_for_backward(
            grad_features.to(features.dtype), grad_prototypes.to(prototypes.dtype)
        )
        ctx.mark_non_differentiable(entropy)
        return loss, entropy

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, Tensor, None, None, None]:
        grad_features, grad_prototypes = ctx.saved_tensors
        return grads[0] * grad_features, grads[0] * grad_prototypes, None, None, None


def assignment_kl(
    features: Tensor,
    prototypes: Tensor,
    targets: Tensor | Iterable[Tensor],
    scale: float,
    weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Mean KL divergence between target assignments and predicted ones.

    It keeps the target's entropy (it is no cross-entropy), so that values compare with the
    released code's logs. Always computed in fp32; see :func:`tf32_under_autocast`.

    Args:
        features: Student features, ``[N, D]``, not normalised.
        prototypes: One per word, ``[K, D]``.
        targets: Target assignments ``[N, K]`` whose rows sum to one, or an iterable that makes
            the rows a few at a time in their order, so that they need not exist all at once.
        scale: kappa, by which the products are multiplied.
        weights: Of the rows, ``[N]``, fp32; the same for all and 1 in sum when None.

    Returns:
        The weighted sum over rows, a scalar, and that of the targets' entropies in nats, a
        scalar without gradient.
    """
    if isinstance(targets, Tensor):
        targets = targets.split(rows_at_once(targets.device, len(prototypes)))
    if weights is None:
        weights = features.new_full((len(features),), 1 / len(features), dtype=torch.float32)
    with tf32_under_autocast(features.device):
        return _ChunkedKL.apply(features, prototypes, targets, scale, weights)
