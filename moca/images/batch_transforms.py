"""Color operators on batches, each image with parameters of its own, on any device.

They do what :mod:`.transforms` does to one image, on float32 tensors ``[B, 3, H, W]`` that hold
whole levels from 0 to 255, and round where that rounds. (torchvision's operators take one parameter
for a batch; kornia's take one an image, in another order for a batch only, and blur by a true
Gaussian, where the published recipes have PIL's.) On photographs they are within a level of it,
with hue within 6, where a hue falls between two of the 256 steps, in 0.3 % of the values
(tests/images/test_batch_transforms.py).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from moca.images.transforms import LUMA, TRUNCATE


def adjust_brightness(images: Tensor, factors: Tensor) -> Tensor:
    """Multiply by factors ``[B]``."""
    return _truncate(images * _per_image(factors))


def adjust_contrast(images: Tensor, factors: Tensor) -> Tensor:
    """Scale the distance from each image's mean gray value by factors ``[B]``."""
    # in float64: a sum of 50,000 levels in float32 is not whole any more
    mean = _gray(images).mean((1, 2, 3), dtype=torch.float64).add_(0.5).floor_()
    level = _per_image(mean.float())
    return _truncate(level + _per_image(factors) * (images - level))


def adjust_saturation(images: Tensor, factors: Tensor) -> Tensor:
    """Scale the distance of each pixel from its own gray value by factors ``[B]``."""
    factor, luma = _per_image(factors), _luma(images)
    return torch.lerp(luma, images, factor).add_(TRUNCATE).round_().clamp_(0, 255)


def adjust_hue(images: Tensor, factors: Tensor) -> Tensor:
    """Turn the hue by factors ``[B]`` of the color circle, within -0.5 and 0.5.

    By whole 256ths of it, from hue and saturation of 8 bits, as OpenCV has them; on its way back it
    takes 255 steps for the circle.
    """
    red, green, blue = images.unbind(1)
    value, least = images.amax(1), images.amin(1)
    spread = value - least
    over = spread.clamp(min=1)
    # in sixths of the circle
    hue = torch.where(
        value == red,
        (green - blue) / over,
        torch.where(value == green, 2 + (blue - red) / over, 4 + (red - green) / over),
    )
    steps = (factors * 255).trunc().mul_(256 / 255).round_()
    hue = (hue * (256 / 6)).round_().add_(steps[:, None, None]).remainder_(256).mul_(6 / 255)
    saturation = (spread * 255 / value.clamp(min=1)).round_().div_(255)
    channels = []
    for offset in (5, 3, 1):  # red, green, blue
        place = (hue + offset).remainder_(6)
        share = torch.minimum(place, 4 - place).clamp_(0, 1)
        channels.append((value - value * saturation * share).round_())
    return torch.stack(channels, 1)


def to_gray(images: Tensor) -> Tensor:
    """Luma in all three channels."""
    return _gray(images).expand_as(images)


def gaussian_blur(images: Tensor, kernels: Tensor) -> Tensor:
    """Blur each image along both axes.

    Args:
        images: ``[B, 3, H, W]``.
        kernels: ``[B, R + 1]``: the middle of each symmetric kernel and what lies on one side of
            it, see :func:`moca.images.transforms.blur_kernel`.
    """
    reach = kernels.shape[1] - 1
    whole = torch.cat([kernels.flip(1), kernels[:, 1:]], 1)
    whole = whole.repeat_interleave(images.shape[1], 0)[:, None]
    planes = images.flatten(0, 1)[None]
    planes = F.pad(planes, (reach, reach, reach, reach), mode='replicate')
    for kernel in (whole[:, :, None], whole[..., None]):
        planes = F.conv2d(planes, kernel, groups=len(whole))
    return planes[0].unflatten(0, images.shape[:2]).round_().clamp_(0, 255)


def solarize(images: Tensor, thresholds: Tensor) -> Tensor:
    """Invert the values at or above thresholds ``[B]``; 256 inverts none."""
    return torch.where(images < _per_image(thresholds), images, 255 - images)


def _per_image(values: Tensor) -> Tensor:
    return values[:, None, None, None]


def _truncate(images: Tensor) -> Tensor:
    return images.clamp_(0, 255).floor_()


def _luma(images: Tensor) -> Tensor:
    # by numbers, not by a tensor of them: its way to a GPU would be waited for
    parts = [images[:, place] * weight for place, weight in enumerate(LUMA.tolist())]
    return (parts[0] + parts[1] + parts[2]).unsqueeze(1)


def _gray(images: Tensor) -> Tensor:
    return _luma(images).round_()
