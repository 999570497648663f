"""Views travel as bytes, and become normalized numbers where the model is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor


class NormalizeViews(BaseDataPreprocessor):
    """Moves views to the model's device and normalizes those that are bytes, as the loader would.

    The numbers are those of `moca.images.transforms.normalize`: the same products and differences
    in float32. What is no image, such as the indices that hooks read, stays where it is. (The loop
    copies views to a GPU ahead of time: `moca.engine.prefetch`.)

    Args:
        mean: Per channel, of images scaled to [0, 1].
        std: Likewise.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        scale = [1 / (255 * s) for s in std]
        shift = [m / s for m, s in zip(mean, std, strict=True)]
        for name, values in (('scale', scale), ('shift', shift)):
            value = torch.tensor(values, dtype=torch.float32)[:, None, None]
            self.register_buffer(name, value, persistent=False)

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Prepare a batch.

        Args:
            data: What the loader gave: views ``[B, 3, H, W]`` of bytes or numbers, and what the
                data set says of the images.
            training: Not read.

        Returns:
            The same with views of float32.
        """
        return {
            name: self._prepare(value) if isinstance(value, Tensor) and value.ndim == 4 else value
            for name, value in data.items()
        }

    def _prepare(self, view: Tensor) -> Tensor:
        view = view.to(self.scale.device, non_blocking=True)
        return torch.mul(view, self.scale).sub_(self.shift) if view.dtype is torch.uint8 else view


def send_bytes(method: Any, views: Any) -> None:
    """Let a run's views travel as bytes, a quarter of what numbers take.

    Nothing is changed for a method that prepares its batches itself, or other views than ours.

    Args:
        method: Of pre-training, on its device.
        views: Of its data set, whose workers have not begun.
    """
    plain = type(getattr(method, 'data_preprocessor', None)) is BaseDataPreprocessor
    if plain and hasattr(views, 'as_bytes'):
        device = next(method.parameters()).device
        method.data_preprocessor = NormalizeViews(views.mean, views.std).to(device)
        views.as_bytes = True
