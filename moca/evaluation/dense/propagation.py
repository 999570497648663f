"""Labels of a video's first frame, propagated to the next ones by patch features.

Sources: facebookresearch/dino (eval_video_segmentation.py), and appendix D of DINOv3 (arXiv
2508.10104) with its notebook on video segmentation.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

Shape = Literal['square', 'circle']
Nearest = Literal['pillow', 'torch']

BLOCK_CELLS = 2**25
"""Similarities that are compared at a time: 128 MiB in fp32."""

FLAT = 1e-5
"""Share of its largest value by which a map has to vary to be stretched (see `stretched`)."""


@dataclass(frozen=True)
class Propagation:
    """How labels go from the context to the next frame.

    Attributes:
        temperature: Weights are ``exp(cosine / temperature)``, divided by their sum.
        shape: Of the neighborhood: of a square, rows and columns are within the radius; of a
            circle, the distance is.
        radius: Of the neighborhood in patches; 0 compares with the whole frame.
        top_k: How many patches, over all context frames together, a patch takes its label from;
            patches as similar as the last one are taken too.
        last_frames: Context frames beside the first one, which stays in the context throughout.
    """

    temperature: float
    shape: Shape = 'square'
    radius: int = 12
    top_k: int = 5
    last_frames: int = 7


def in_neighborhood(rows: Tensor, columns: Tensor, how: Propagation) -> Tensor:
    """Whether patches so many rows and columns away are in the neighborhood."""
    if not how.radius:
        return torch.ones_like(rows + columns, dtype=torch.bool)
    if how.shape == 'square':
        return (rows.abs() <= how.radius) & (columns.abs() <= how.radius)
    return rows**2 + columns**2 <= how.radius**2


def propagate(
    features: Tensor, context: Sequence[Tensor], labels: Sequence[Tensor], how: Propagation
) -> Tensor:
    """Soft labels of a frame from those of its context.

    Args:
        features: Of the frame, ``[D, h, w]``, of length 1 in each patch.
        context: The same of each context frame.
        labels: Soft labels of each context frame, ``[C, h, w]``.
        how: Neighborhood, number of patches, temperature.

    Returns:
        ``[C, h, w]``: weighted means of the context's labels.
    """
    _, height, width = features.shape
    device = features.device
    frames, masks = torch.stack(list(context)), torch.stack(list(labels))
    columns = torch.arange(width, device=device)
    found = []
    for start, end in _row_blocks(height, width, len(frames), how.radius):
        # only rows that the neighborhood reaches
        low = max(start - how.radius, 0) if how.radius else 0
        high = min(end + how.radius, height) if how.radius else height
        queries = features[:, start:end].flatten(1)
        keys = frames[:, :, low:high].transpose(0, 1).flatten(1)
        values = masks[:, :, low:high].transpose(0, 1).flatten(1)
        rows = torch.arange(start, end, device=device)[:, None, None, None]
        others = torch.arange(low, high, device=device)[None, None, :, None]
        near = in_neighborhood(
            rows - others, columns[None, :, None, None] - columns[None, None, None, :], how
        )
        near = near.flatten(2).flatten(0, 1).repeat(1, len(frames))
        similar = (queries.T @ keys).masked_fill_(~near, float('-inf'))
        weakest = similar.topk(min(how.top_k, similar.shape[1]), dim=1).values[:, -1:]
        similar.masked_fill_(similar < weakest, float('-inf'))
        weights = (similar / how.temperature).softmax(1)
        found.append((values @ weights.T).unflatten(1, (end - start, width)))
    return torch.cat(found, dim=1)


def _row_blocks(height: int, width: int, frames: int, radius: int) -> Iterator[tuple[int, int]]:
    """Rows of the frame that are compared at a time."""
    seen = min(2 * radius + 1, height) if radius else height
    step = max(BLOCK_CELLS // (width * width * seen * frames), 1)
    for start in range(0, height, step):
        yield start, min(start + step, height)


def propagate_video(frames: Iterable[Tensor], first: Tensor, how: Propagation) -> Iterator[Tensor]:
    """Soft labels of the second frame and all later ones.

    What is propagated on are these soft labels on the grid of patches: neither enlarged, nor
    stretched, nor decided.

    Args:
        frames: Features of each frame, ``[D, h, w]``, of any length.
        first: Soft labels of the first frame, ``[C, h, w]``; channel 0 is the background.
        how: Neighborhood, number of patches, temperature, context.

    Yields:
        ``[C, h, w]`` for each frame but the first.
    """
    beginning: Tensor | None = None
    last: deque[tuple[Tensor, Tensor]] = deque(maxlen=how.last_frames)
    for frame in frames:
        features = F.normalize(frame.float(), dim=0)
        if beginning is None:
            beginning = features
            continue
        context = [beginning, *(pair[0] for pair in last)]
        labels = [first, *(pair[1] for pair in last)]
        soft = propagate(features, context, labels, how)
        last.append((features, soft))
        yield soft


def labels_on_grid(mask: NDArray[np.uint8], grid: tuple[int, int], by: Nearest) -> Tensor:
    """Labels of the first frame on the grid of patches.

    Args:
        mask: ``[H, W]``: 0 is background, n the n-th object.
        grid: Rows and columns of patches.
        by: How it is made smaller, which differs by rounding: ``pillow`` (NEAREST), or ``torch``
            (nearest-exact).

    Returns:
        ``[objects + 1, h, w]`` fp32; a channel stays where a small object has no patch (the
        source drops it, if it is the last one).
    """
    if by == 'pillow':
        size = (grid[1], grid[0])
        resized = Image.fromarray(mask).resize(size, Image.Resampling.NEAREST)
        small = torch.from_numpy(np.array(resized))
    else:
        pixels = torch.from_numpy(mask)[None, None].float()
        small = F.interpolate(pixels, size=grid, mode='nearest-exact')[0, 0]
    return F.one_hot(small.long(), int(mask.max()) + 1).permute(2, 0, 1).float()


def stretched(maps: Tensor) -> Tensor:
    """Stretch each channel from its smallest to its largest value to 0..1.

    A channel that is constant, but for rounding, stays as it is. (The source divides by zero
    there, and by rounding where an object covers the whole frame.)

    Args:
        maps: ``[C, H, W]``, not negative.
    """
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    spread = high - low
    flat = spread <= FLAT * high
    return torch.where(flat, maps, (maps - low) / torch.where(flat, 1.0, spread))
