"""Color operators of views on the model's device: ``--gpu-views``.

Decoding, cropping and mirroring stay with the workers, which also draw every parameter as they ever
do and send it along; jitter, gray, blur and solarizing follow on the device, for a whole batch and
each image by its own parameters. So views are those of the workers, but for roundings.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from moca.images import batch_transforms
from moca.images.transforms import blur_kernel

# As in `views`, in whose order operators are numbered.
_JITTER_OPERATORS = (
    batch_transforms.adjust_brightness,
    batch_transforms.adjust_contrast,
    batch_transforms.adjust_saturation,
    batch_transforms.adjust_hue,
)
_SLOTS = len(_JITTER_OPERATORS)
# Columns: number and factor of the operator in each slot, then these.
_GRAY, _SOLARIZE, _KERNEL = 2 * _SLOTS, 2 * _SLOTS + 1, 2 * _SLOTS + 2
_NONE = -1.0  # number of no operator
_ABOVE_ALL = 256.0  # threshold that no level reaches


def packed(
    jitter: Sequence[tuple[int, float]],
    gray: bool,
    blur_radius: float | None,
    solarize: float | None,
    widest_radius: float,
) -> Tensor:
    """The color parameters of a view as numbers, ``[10 + R + 1]`` for blur kernels of reach R.

    Args:
        jitter: Number and factor of each operator, in their order.
        gray: Whether colors are taken away.
        blur_radius: In pixels; None is no blur, whose kernel is a one and zeros.
        solarize: Levels from this one on are inverted; None for none.
        widest_radius: The largest blur that the recipe draws, which gives R.
    """
    widest = len(blur_kernel(widest_radius)) // 2
    row = np.zeros(_KERNEL + widest + 1, np.float32)
    row[0 : 2 * _SLOTS : 2] = _NONE
    for slot, (operator, factor) in enumerate(jitter):
        row[2 * slot : 2 * slot + 2] = operator, factor
    row[_GRAY] = gray
    row[_SOLARIZE] = _ABOVE_ALL if solarize is None else solarize
    row[_KERNEL] = 1
    if blur_radius is not None:
        kernel = blur_kernel(blur_radius)
        half = kernel[len(kernel) // 2 :]
        row[_KERNEL : _KERNEL + len(half)] = half
    return torch.from_numpy(row)


def recolor(view: Tensor, colors: Tensor) -> Tensor:
    """Apply to each image of a batch what was drawn for it.

    Args:
        view: ``[B, 3, H, W]`` uint8, on any device.
        colors: ``[B, columns]`` of :func:`packed`, on the CPU: which image needs which operator is
            read here, without waiting for the device.

    Returns:
        Whole levels, float32.
    """
    with torch.autocast(view.device.type, enabled=False):
        return _recolored(view.float(), colors)


def _recolored(images: Tensor, colors: Tensor) -> Tensor:
    device = images.device
    table = colors.to(device, non_blocking=True)
    for slot in range(_SLOTS):
        numbers, factors = colors[:, 2 * slot], table[:, 2 * slot + 1]
        for number, operator in enumerate(_JITTER_OPERATORS):
            chosen = _where(numbers == number, device)
            if len(chosen):
                images[chosen] = operator(images[chosen], factors[chosen])
    chosen = _where(colors[:, _GRAY] > 0, device)
    if len(chosen):
        images[chosen] = batch_transforms.to_gray(images[chosen])
    chosen = _where(colors[:, _KERNEL] < 1, device)
    if len(chosen):
        images[chosen] = batch_transforms.gaussian_blur(images[chosen], table[chosen, _KERNEL:])
    if (colors[:, _SOLARIZE] < _ABOVE_ALL).any():
        images = batch_transforms.solarize(images, table[:, _SOLARIZE])
    return images


def _where(chosen: Tensor, device: torch.device) -> Tensor:
    """Numbers of the images that are chosen, on the device."""
    return chosen.nonzero()[:, 0].to(device, non_blocking=True)
