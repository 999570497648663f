"""mmseg's cross-entropy of enlarged logits without enlarging them all at once.

mmseg enlarges a head's logits to pixels, ``[N, classes, H, W]``, and keeps that tensor, its log
softmax and the gradients of both: for 150 classes and 16 crops of 512 pixels, 2.5 GB each. Here
some rows of pixels are enlarged at a time, and their part of the loss, of the accuracy and of the
gradient with respect to the small logits is added up. The results are mmseg's, up to rounding.
"""

from __future__ import annotations

from typing import Any

import torch
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.losses import CrossEntropyLoss
from torch import Tensor
from torch.autograd.function import once_differentiable

from moca.segmentation.window_merge import band, resizing_matrix

_BLOCK_BYTES = {'cpu': 2**23}
"""Size of the logits that are at full resolution at a time [choice], by kind of device: 8 MB, so
that they stay in a CPU's cache."""
_BLOCK_BYTES_ELSEWHERE = 2**28  # 256 MB: few and large kernels
_EPS = torch.finfo(torch.float32).eps  # mmseg's, against images without a label


def can_be_in_parts(head: Any) -> bool:
    """Whether a head's loss is plain cross-entropy on logits that are enlarged and nothing more."""
    loss = head.loss_decode
    return (
        type(head).loss is BaseDecodeHead.loss
        and type(head).loss_by_feat is BaseDecodeHead.loss_by_feat
        and head.sampler is None
        and head.out_channels > 1
        and type(loss) is CrossEntropyLoss
        and not (loss.use_sigmoid or loss.use_mask)
        and loss.class_weight is None
        and loss.reduction == 'mean'
    )


def loss_in_parts(head: Any, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """What mmseg's ``loss_by_feat`` returns for a head that `can_be_in_parts`.

    Args:
        head: one of mmseg's.
        logits: at the head's resolution, ``[N, classes, h, w]``, of any floating type.
        labels: ``[N, H, W]``.

    Returns:
        The loss under its name, and the accuracy in percent, ``acc_seg``.
    """
    settings = head.loss_decode
    loss, correct = EnlargedCrossEntropy.apply(
        logits, labels, head.ignore_index, head.align_corners
    )
    labeled = (labels != head.ignore_index).sum()
    pixels = labeled if settings.avg_non_ignore else labels.numel()
    return {
        settings.loss_name: settings.loss_weight * (loss / (pixels + _EPS)),
        'acc_seg': ((correct + _EPS) * (100.0 / (labeled + _EPS)))[None],
    }


class EnlargedCrossEntropy(torch.autograd.Function):
    """The sum of cross-entropy over labeled pixels, of bilinearly enlarged logits.

    The gradient is found on the way forward, where each part of the logits is at hand.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, labels: Tensor, ignore_index: int, align_corners: bool
    ) -> tuple[Tensor, Tensor]:
        """Enlarge ``[N, C, h, w]`` to the size of the labels ``[N, H, W]``, some rows at a time.

        Returns:
            The sum over pixels, and how many have their class as the largest.
        """
        device = logits.device
        rows = resizing_matrix(logits.shape[2], labels.shape[1], align_corners)
        columns = resizing_matrix(logits.shape[3], labels.shape[2], align_corners).to(device)
        step = _rows_at_a_time(logits, labels)
        loss, correct = torch.zeros((), device=device), torch.zeros((), device=device)
        with torch.autocast(device.type, enabled=False):
            wide = logits.float() @ columns.T
            gradient = torch.zeros_like(wide) if ctx.needs_input_grad[0] else None
            for start in range(0, len(rows), step):
                weights, used = band(rows[start : start + step], device)
                target = labels[:, start : start + step]
                known = target != ignore_index
                target = target.where(known, 0)[:, None]
                scores = (weights @ wide[:, :, used]).log_softmax(1)
                chosen = scores.gather(1, target)[:, 0]
                loss -= chosen.where(known, 0).sum()
                correct += ((chosen == scores.amax(1)) & known).sum()
                if gradient is not None:
                    part = scores.exp_()  # probabilities; minus one for the class of the label
                    part.scatter_add_(1, target, -torch.ones_like(chosen)[:, None])
                    part *= known[:, None]
                    gradient.index_add_(2, used, weights.T @ part)
            if gradient is not None:
                ctx.save_for_backward((gradient @ columns).to(logits.dtype))
        ctx.mark_non_differentiable(correct)
        return loss, correct

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor, _: Tensor) -> tuple[Tensor, None, None, None]:
        """Scale the gradient that `forward` has found."""
        (gradient,) = ctx.saved_tensors
        return gradient * grad_loss.to(gradient.dtype), None, None, None


def _rows_at_a_time(logits: Tensor, labels: Tensor) -> int:
    size = _BLOCK_BYTES.get(logits.device.type, _BLOCK_BYTES_ELSEWHERE)
    return max(size // (4 * logits.shape[0] * logits.shape[1] * labels.shape[2]), 1)
