"""Exponential moving average of the student: the teacher."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def ema_update(teacher: Iterable[Tensor], student: Iterable[Tensor], momentum: float) -> None:
    """``teacher = momentum * teacher + (1 - momentum) * student``, all tensors in one pass."""
    torch._foreach_lerp_(list(teacher), [tensor.detach() for tensor in student], 1 - momentum)


def copy_to_teacher(student: nn.Module, teacher: nn.Module) -> None:
    """Make ``teacher`` a copy of ``student`` that never receives gradients."""
    teacher.load_state_dict(student.state_dict())
    teacher.requires_grad_(False)
