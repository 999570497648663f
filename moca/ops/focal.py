"""The focal loss of independent classes (RetinaNet, arXiv 1708.02002), by torchvision."""

import torch
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from moca.ops.rounding import compute_dtype


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Write the loss of each row and class to `output` `[N, K]`, in place.

    Args:
        input: logits, `[N, K]`.
        target: the class of each row, `[N]` (int64); a number that is no class, such as K, stands
            for the background.
        weight: of each class, by which the losses of its rows are multiplied, `[K]`; or empty.
            The background has 1.
        output: result, written in place.
        gamma: how much less a row counts that is told rightly.
        alpha: share of the positive class; 1 - alpha goes to the negative ones.
    """
    output.copy_(_loss(input.to(compute_dtype(input)), target, weight, gamma, alpha))


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Write the derivative of each loss by its own logit to `grad_input` `[N, K]`, in place.

    The other arguments are the forward's.
    """
    logits = input.detach().to(compute_dtype(input)).requires_grad_()
    with torch.enable_grad():
        total = _loss(logits, target, weight, gamma, alpha).sum()
    (gradient,) = torch.autograd.grad(total, logits)
    grad_input.copy_(gradient)


def _loss(logits: Tensor, target: Tensor, weight: Tensor, gamma: float, alpha: float) -> Tensor:
    classes = torch.arange(logits.shape[1], device=logits.device)
    positive = (target[:, None] == classes).to(logits.dtype)
    loss = sigmoid_focal_loss(logits, positive, alpha=alpha, gamma=gamma)
    if weight.numel():
        of_rows = positive @ weight.to(logits.dtype)[:, None]
        loss = loss * torch.where(positive.any(1, keepdim=True), of_rows, 1.0)
    return loss
