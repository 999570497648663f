"""The presets of video object segmentation: sizes, frames as the backbone takes them, label maps.

Scores of different presets are not comparable: each is a protocol of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from moca.evaluation.dense.propagation import Nearest, Propagation, stretched
from moca.evaluation.labeled import normalize
from moca.images.transforms import IMAGENET_MEAN, IMAGENET_STD

Pixels = NDArray[np.uint8]

DINO_STD = (0.228, 0.224, 0.225)
"""What DINO's script divides by: its red is .228, ImageNet's .229."""

LONG_SIDE_STEP = 64
"""Pixels: DINO's script cuts the long side to a multiple of it."""


@dataclass(frozen=True)
class VideoPreset:
    """How frames are made ready and labels are propagated and enlarged.

    Attributes:
        short_side: In pixels, for patches of 16.
        propagation: See there.
        family: Whose rules the rest follows. ``dino``: the long side is cut to a multiple of 64
            pixels, frames are resized by OpenCV without antialiasing, label maps are enlarged to
            the network's size bilinearly and from there to the frame's by nearest pixels.
            ``dinov3``: both sides are rounded up to whole patches, frames are resized by Pillow's
            bicubic filter, and soft labels are enlarged bilinearly to the frame's size, as the
            paper says (the notebook takes nearest pixels).
        nearest: How the first label map is made smaller.
    """

    short_side: int
    propagation: Propagation
    family: Literal['dino', 'dinov3']
    nearest: Nearest


PRESETS = {
    'dino': VideoPreset(480, Propagation(0.1, 'square'), 'dino', 'pillow'),
    **{
        f'dinov3-{letter}': VideoPreset(side, Propagation(0.2, 'circle'), 'dinov3', 'torch')
        for letter, side in (('s', 480), ('m', 960), ('l', 1440))
    },
}
"""DINO's script; sizes S, M and L of DINOv3 (its model card gives M)."""


def dino_size(height: int, width: int, patch: int, short: int = 480) -> tuple[int, int]:
    """Height and width in pixels that DINO's script gives a frame.

    Where they are no whole patches (480 of patches of 14), both are rounded down to them; this is
    no size of the published protocol.
    """
    if height > width:
        long = int(short * height / width) // LONG_SIDE_STEP * LONG_SIDE_STEP
        sides = (long, short)
    else:
        long = int(short * width / height) // LONG_SIDE_STEP * LONG_SIDE_STEP
        sides = (short, long)
    return sides[0] // patch * patch, sides[1] // patch * patch


def dinov3_size(height: int, width: int, patch: int, short: int) -> tuple[int, int]:
    """Height and width in pixels of DINOv3's protocol: whole patches, rounded up.

    Args:
        height: Of the frame.
        width: Likewise.
        patch: In pixels.
        short: Short side for patches of 16. For those of 14 it has as many patches: 420 pixels for
            480.
    """
    short = short // 16 * 14 if patch == 14 else short
    short = -(-short // patch) * patch
    long = round(max(height, width) * short / min(height, width), 6)
    long = int(-(-long // patch)) * patch
    return (long, short) if height > width else (short, long)


def network_size(height: int, width: int, patch: int, preset: VideoPreset) -> tuple[int, int]:
    """Height and width in pixels at which the backbone sees a frame."""
    size = dino_size if preset.family == 'dino' else dinov3_size
    return size(height, width, patch, preset.short_side)


def deviates(patch: int, preset: VideoPreset) -> bool:
    """Whether a preset's size is not whole patches, so that another one is taken."""
    return preset.family == 'dino' and bool(preset.short_side % patch or LONG_SIDE_STEP % patch)


def preset_std(
    mean: Sequence[float], std: Sequence[float], preset: VideoPreset
) -> tuple[float, ...]:
    """What frames are divided by: DINO's .228 in place of ImageNet's, else the backbone's own."""
    imagenet = np.allclose((*mean, *std), (*IMAGENET_MEAN, *IMAGENET_STD), atol=1e-4)
    return DINO_STD if preset.family == 'dino' and imagenet else tuple(std)


def frame_tensor(
    frame: Pixels,
    size: tuple[int, int],
    mean: Sequence[float],
    std: Sequence[float],
    preset: VideoPreset,
) -> Tensor:
    """A frame ``[H, W, 3]`` RGB, resized and normalized, ``[3, h, w]`` fp32.

    Args:
        frame: Of a video.
        size: Height and width in pixels.
        mean: The backbone's, of pixels from 0 to 1.
        std: See `preset_std`.
        preset: Which filter resizes.
    """
    wide = (size[1], size[0])
    if preset.family == 'dino':
        resized = Image.fromarray(cv2.resize(frame, wide, interpolation=cv2.INTER_LINEAR))
    else:
        resized = Image.fromarray(frame).resize(wide, Image.Resampling.BICUBIC)
    return normalize(resized, mean, std)


def label_map(
    soft: Tensor, size: tuple[int, int], frame: tuple[int, int], preset: VideoPreset
) -> Pixels:
    """The label map of a frame from soft labels of its patches.

    Args:
        soft: ``[C, h, w]``.
        size: Height and width in pixels at which the backbone saw the frame.
        frame: Those of the frame.
        preset: How labels are enlarged.

    Returns:
        ``[H, W]`` uint8: 0 is background.
    """
    target = size if preset.family == 'dino' else frame
    large = F.interpolate(soft[None], size=target, mode='bilinear', align_corners=False)[0]
    labels = stretched(large).argmax(0).to(torch.uint8).cpu().numpy()
    if preset.family == 'dino':
        image = Image.fromarray(labels).resize((frame[1], frame[0]), Image.Resampling.NEAREST)
        labels = np.array(image)
    return labels
