"""Views travel as bytes, and become normalized numbers where the model is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from moca.engine.prefetch import is_images
from moca.errors import UserError
from moca.pretrain.data.colors import recolor


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
            data: What the loader gave: views ``[B, 3, H, W]`` of bytes or numbers, what the
                data set says of the images, and for ``view1`` what is left to do to it,
                ``colors1`` (:mod:`.colors`).
            training: Not read.

        Returns:
            The same with views of float32 and without colors.
        """
        prepared = {}
        for name, value in data.items():
            if is_images(value):
                colors = data.get(name.replace('view', 'colors'))
                prepared[name] = self._prepare(value, colors)
            elif not name.startswith('colors'):
                prepared[name] = value
        return prepared

    def _prepare(self, view: Tensor, colors: Tensor | None) -> Tensor:
        view = view.to(self.scale.device, non_blocking=True)
        if view.dtype is not torch.uint8:
            return view
        levels = view if colors is None else recolor(view, colors)
        return torch.mul(levels, self.scale).sub_(self.shift)


def send_bytes(method: Any, views: Any) -> None:
    """Let a run's views travel as bytes, a quarter of what numbers take.

    Nothing is changed for a method that prepares its batches itself, or other views than ours.

    Args:
        method: Of pre-training, on its device.
        views: Of its data set, whose workers have not begun.

    Raises:
        UserError: Colors are left to the device by a method that prepares its batches itself.
    """
    plain = type(getattr(method, 'data_preprocessor', None)) is BaseDataPreprocessor
    if plain and hasattr(views, 'as_bytes'):
        device = next(method.parameters()).device
        method.data_preprocessor = NormalizeViews(views.mean, views.std).to(device)
        views.as_bytes = True
    elif getattr(views, 'colors_on_device', False):
        raise UserError(
            '--gpu-views (train_dataloader.dataset.views.colors_on_device): '
            f'{type(method).__name__} prepares its batches itself (model.data_preprocessor), '
            'without their colors. Leave one of the two out.'
        )


def leave_colors_to_gpu(cfg: Config) -> None:
    """Apply ``--gpu-views``.

    Raises:
        UserError: There is no GPU, or the data set has other views than ours.
    """
    if not torch.cuda.is_available():
        raise UserError(
            '--gpu-views: there is no GPU that torch can use here, and on a CPU the workers are '
            'faster. Leave it out.'
        )
    views = cfg.train_dataloader.dataset.get('views')
    if not isinstance(views, dict) or views.get('type') != 'AugmentedViews':
        raise UserError(
            '--gpu-views: train_dataloader.dataset.views is no AugmentedViews, whose colors could '
            'be left to the GPU. Leave it out.'
        )
    views['colors_on_device'] = True
