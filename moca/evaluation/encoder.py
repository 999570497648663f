"""Look at a run's encoder from outside, and leave no trace in the run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import is_model_wrapper
from torch import Tensor, nn

from moca.backbone import PlainViT
from moca.engine.amp import AutocastOptimWrapper
from moca.errors import UserError


def encoder_of(model: nn.Module) -> tuple[str, PlainViT]:
    """The branch that a method is judged by, and its name: the teacher, else the student.

    Args:
        model: A pre-training method, wrapped for several processes or not.

    Raises:
        UserError: It has neither.
    """
    inner: Any = model.module if is_model_wrapper(model) else model
    for name in ('teacher', 'student'):
        encoder = getattr(inner, name, None)
        if isinstance(encoder, PlainViT):
            return name, encoder
    raise UserError(
        f'{type(inner).__name__} has no teacher and no student that is a PlainViT; KNNMonitor and '
        'FeaturePictures watch one of them. Remove them from custom_hooks.'
    )


def picture_size(encoder: PlainViT) -> tuple[int, int]:
    """Height and width in pixels for which an encoder's positions are made."""
    rows, columns = encoder.grid
    return rows * encoder.patch_size, columns * encoder.patch_size


def precision_of(runner: Any) -> torch.dtype | None:
    """The type that a run autocasts to; None in fp32."""
    wrapper = runner.optim_wrapper
    return wrapper.dtype if isinstance(wrapper, AutocastOptimWrapper) else None


@contextmanager
def evaluating(encoder: nn.Module) -> Iterator[None]:
    """Eval mode without gradients; afterwards every module has the mode that it had."""
    modes = [(module, module.training) for module in encoder.modules()]
    encoder.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def patch_features(encoder: PlainViT, images: Tensor, precision: torch.dtype | None) -> Tensor:
    """Patch tokens after the final norm, ``[B, L, C]`` fp32.

    Args:
        encoder: In eval mode.
        images: ``[B, 3, H, W]``, normalised, anywhere.
        precision: To autocast to; None for fp32.
    """
    device = next(encoder.parameters()).device
    images = images.to(device, non_blocking=True)
    with torch.autocast(device.type, precision, enabled=precision is not None):
        return encoder.tokens(images).patches.float()


def image_features(encoder: PlainViT, images: Tensor, precision: torch.dtype | None) -> Tensor:
    """Mean patch token of each image, of length 1, ``[B, C]`` fp32; see `patch_features`."""
    return F.normalize(patch_features(encoder, images, precision).mean(1), dim=1)
