"""Losses of the pre-training methods, written so that no [tokens, words] tensor survives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor

from moca.engine.amp import tf32_under_autocast

# Bytes of one [rows, words] tensor in fp32 of which a few exist at a time. CPU: what its caches
# hold, and small beside a step of any size. Elsewhere: enough rows to keep the device busy.
CHUNK_BYTES = {'cpu': 2 << 20}
_CHUNK_BYTES_ELSEWHERE = 128 << 20

# The number of a feature tensor, rows of it, and their targets [rows, K].
Block = tuple[int, slice, Tensor]


def rows_at_once(device: torch.device, words: int) -> int:
    """How many rows of ``words`` fp32 numbers to handle at a time on a device; at least 1."""
    return max(1, CHUNK_BYTES.get(device.type, _CHUNK_BYTES_ELSEWHERE) // (4 * words))


Terms = Callable[[Tensor, Tensor, float, float], tuple[Tensor, Tensor, Tensor]]


def terms(
    products: Tensor, q: Tensor, scale: float, weight: float
) -> tuple[Tensor, Tensor, Tensor]:
    """What a block of rows adds to the loss, in the memory of ``products``.

    Args:
        products: Features by prototypes, ``[rows, K]``; overwritten.
        q: Target assignments, ``[rows, K]``, whose rows sum to one.
        scale: Of the logits.
        weight: Of the loss in the gradient.

    Returns:
        Sum of q log q, sum of q log p, and the gradient of ``weight`` times the loss with respect
        to ``products``, ``[rows, K]``.
    """
    buffer = products.mul_(scale)
    log_p = torch.log_softmax(buffer, dim=-1)
    # xlogy: a word of probability 0 adds 0, not NaN
    negative_entropy = torch.xlogy(q, q, out=buffer).sum()
    cross = torch.mul(q, log_p, out=buffer).sum()
    # rows of q sum to one, so d KL / d logits = softmax - q
    return negative_entropy, cross, log_p.exp_().sub_(q).mul_(scale * weight)


def _terms_to_fuse(
    products: Tensor, q: Tensor, scale: float, weight: float
) -> tuple[Tensor, Tensor, Tensor]:
    """As :func:`terms`; each tensor is read once when compiled. Rows are summed before they are
    added up: one sum over all of them, as a kernel would take it, is off by 1e-5.
    """
    log_p = torch.log_softmax(products * scale, dim=-1)
    negative_entropy = torch.xlogy(q, q).sum(-1)
    cross = (q * log_p).sum(-1)
    return negative_entropy.sum(), cross.sum(), (log_p.exp() - q) * (scale * weight)


def compiled_terms() -> Terms:
    """:func:`terms` by torch.compile, as long as that works; what it says if it does not is kept.

    Half of the memory traffic of the loss is in these sums, which one kernel takes in one pass.
    """
    from torch._dynamo.exc import TorchDynamoException  # late: a second

    fused: Terms | None = torch.compile(_terms_to_fuse)

    def either(
        products: Tensor, q: Tensor, scale: float, weight: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        nonlocal fused
        if fused is not None:
            try:
                return fused(products, q, scale, weight)
            except TorchDynamoException as error:
                first = str(error).strip().splitlines()[0]
                print_log(f'The loss cannot be compiled ({first}) and is not.', 'current', 30)
                fused = None
        return terms(products, q, scale, weight)

    return either


class _ChunkedKL(torch.autograd.Function):
    """Sum over feature tensors of mean KL(target || softmax(scale * features @ prototypes^T)).

    The gradients are computed beside the loss, block by block, since everything that they need
    is at hand there; the backward pass only scales them.
    """

    @staticmethod
    def forward(
        ctx: Any,
        prototypes: Tensor,
        targets: Iterable[Block],
        scale: float,
        make_terms: Terms,
        *features: Tensor,
    ) -> tuple[Tensor, Tensor]:
        loss = torch.zeros((), dtype=torch.float32, device=prototypes.device)
        entropy = torch.zeros_like(loss)
        grad_prototypes = torch.zeros_like(prototypes, dtype=torch.float32)
        grad_features = [torch.empty_like(tensor, dtype=torch.float32) for tensor in features]
        full_prototypes = prototypes.float()
        for number, rows, q in targets:
            part, weight = features[number][rows].float(), 1 / len(features[number])
            negative_entropy, cross, residual = make_terms(
                part @ full_prototypes.T, q, scale, weight
            )
            entropy.sub_(negative_entropy, alpha=weight)
            loss.add_(negative_entropy - cross, alpha=weight)
            torch.mm(residual, full_prototypes, out=grad_features[number][rows])
            grad_prototypes.addmm_(residual.T, part)
            del q, residual  # before the next targets are made
        ctx.grads = [grad_prototypes, *grad_features]
        ctx.dtypes = [tensor.dtype for tensor in (prototypes, *features)]
        ctx.mark_non_differentiable(entropy)
        return loss, entropy

    @staticmethod
    def backward(ctx: Any, *upstream: Any) -> tuple[Tensor | None, ...]:
        if ctx.grads is None:
            raise RuntimeError('assignment_kl keeps no gradients for a second backward pass.')
        # in fp32 first: without the loss scale, float16 would lose them
        grad_prototypes, *grad_features = (
            grad.mul_(upstream[0]).to(dtype)
            for grad, dtype in zip(ctx.grads, ctx.dtypes, strict=True)
        )
        ctx.grads = None
        return grad_prototypes, None, None, None, *grad_features


def assignment_kl(
    features: Tensor | Sequence[Tensor],
    prototypes: Tensor,
    targets: Tensor | Iterable[Block],
    scale: float,
    make_terms: Terms = terms,
) -> tuple[Tensor, Tensor]:
    """Mean KL divergence between target assignments and predicted ones.

    It keeps the target's entropy (it is no cross-entropy), so that values compare with the
    released code's logs. Always computed in fp32; see :func:`tf32_under_autocast`. Its gradients
    can be taken once.

    Args:
        features: Student features, ``[N, D]``, not normalized; or several such tensors, whose
            means are added.
        prototypes: One per word, ``[K, D]``.
        targets: Target assignments ``[N, K]`` whose rows sum to one, or an iterable of blocks of
            them, so that they need not exist all at once: the number of the feature tensor, its
            rows, and their targets. Together they cover each row once.
        scale: kappa, by which the products are multiplied.
        make_terms: :func:`terms`, or what :func:`compiled_terms` gave.

    Returns:
        The mean over rows, a scalar, and the mean entropy of the targets in nats, a scalar
        without gradient; of several feature tensors the sums.
    """
    tensors = [features] if isinstance(features, Tensor) else list(features)
    blocks = _blocks(targets) if isinstance(targets, Tensor) else targets
    with tf32_under_autocast(prototypes.device):
        return _ChunkedKL.apply(prototypes, blocks, scale, make_terms, *tensors)


def _blocks(targets: Tensor) -> Iterator[Block]:
    size = rows_at_once(targets.device, targets.shape[1])
    for start in range(0, len(targets), size):
        rows = slice(start, start + size)
        yield 0, rows, targets[rows]
