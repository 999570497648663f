"""J and F of video object segmentation, as the official evaluation of DAVIS 2017 defines them.

Source: davisvideochallenge/davis2017-evaluation, semi-supervised.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from moca.errors import UserError

Mask = NDArray[np.bool_]
Labels = NDArray[np.uint8]

TOLERANCE = 0.008
"""Share of a frame's diagonal by which boundaries may be apart."""

VOID = 255
"""Pixels of the truth that are no object; the official evaluation takes them for background."""

RECALLED = 0.5
"""J or F above which a frame counts as recalled."""


def region_similarity(truth: Mask, found: Mask) -> float:
    """J, the intersection over the union of two masks ``[H, W]``; 1 if both are empty."""
    union = int((truth | found).sum())
    return int((truth & found).sum()) / union if union else 1.0


def boundary(mask: Mask) -> Mask:
    """Pixels ``[H, W]`` that differ from their right, lower or lower right neighbor.

    Those of the last row and column are compared along it only, and the last corner is none.
    """
    padded = np.pad(mask, ((0, 1), (0, 1)), mode='edge')
    right, lower, diagonal = padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    found: Mask = (mask != right) | (mask != lower) | (mask != diagonal)
    return found


def boundary_accuracy(truth: Mask, found: Mask, tolerance: float = TOLERANCE) -> float:
    """F, the harmonic mean of precision and recall of a mask's boundary.

    Args:
        truth: ``[H, W]``.
        found: The same.
        tolerance: Share of the diagonal within which a boundary pixel is matched, rounded up to
            whole pixels.
    """
    radius = math.ceil(tolerance * math.hypot(*truth.shape))
    edges = boundary(found), boundary(truth)
    counts = [int(edge.sum()) for edge in edges]
    if not all(counts):
        return float(not any(counts))
    place = np.arange(-radius, radius + 1)
    disk = (place[:, None] ** 2 + place[None] ** 2 <= radius**2).astype(np.uint8)
    near = [cv2.dilate(edge.astype(np.uint8), disk) > 0 for edge in edges]
    precision = int((edges[0] & near[1]).sum()) / counts[0]
    recall = int((edges[1] & near[0]).sum()) / counts[1]
    total = precision + recall
    return 2 * precision * recall / total if total else 0.0


@dataclass(frozen=True)
class VideoScores:
    """J and F ``[objects, frames]`` of a video, in 0..1."""

    regions: NDArray[np.float64]
    boundaries: NDArray[np.float64]


def score_video(truth: Sequence[Labels], found: Sequence[Labels], name: str = '') -> VideoScores:
    """Compare the label maps of a video with the truth; the first and the last frame do not count.

    The objects are those of the first frame, 1 to its largest value; others that appear later are
    background. In the truth, void is background as well.

    Args:
        truth: ``[H, W]`` for each frame, 255 where void.
        found: The same without void.
        name: Of the video, for messages.

    Raises:
        UserError: There are more objects in what was found than in the first frame.
    """
    objects = object_count(truth[0])
    pairs = list(zip(truth, found, strict=True))[1:-1]
    most = max((int(labels.max()) for _, labels in pairs), default=0)
    if most > objects:
        raise UserError(
            f'{name}: {most} objects were predicted, but its first frame has {objects}. Predict '
            'those of the first frame only.'
        )
    shape = objects, len(pairs)
    scores = VideoScores(np.empty(shape), np.empty(shape))
    for place in range(objects):
        for time, (labels, ours) in enumerate(pairs):
            masks = labels == place + 1, ours == place + 1
            scores.regions[place, time] = region_similarity(*masks)
            scores.boundaries[place, time] = boundary_accuracy(*masks)
    return scores


def object_count(first: Labels) -> int:
    """How many objects a video has, by its first label map ``[H, W]``; void is none."""
    return int(np.where(first == VOID, 0, first).max())


def recall(values: NDArray[np.float64]) -> float:
    """Share of an object's frames with a J or F above .5."""
    return float((values > RECALLED).mean())


def decay(values: NDArray[np.float64]) -> float:
    """Mean J or F of an object in the first quarter of its frames less that in the last one.

    Quarters share their border frames.
    """
    ends = np.round(np.linspace(1, len(values), 5) + 1e-10).astype(int) - 1
    first, last = values[ends[0] : ends[1] + 1], values[ends[3] : ends[4] + 1]
    return float(first.mean() - last.mean())


def davis_metrics(videos: Sequence[VideoScores]) -> dict[str, float]:
    """Means in percent over the objects of all videos (not over videos).

    ``J&F`` is the mean of ``J`` and ``F``, the means over frames; ``J_recall``, ``J_decay`` and
    the same of F are those of `recall` and `decay`.

    Args:
        videos: With at least one object that has frames.
    """
    metrics: dict[str, float] = {}
    for letter, field in (('J', 'regions'), ('F', 'boundaries')):
        rows = [row for video in videos for row in getattr(video, field)]
        for name, measure in (('', np.mean), ('_recall', recall), ('_decay', decay)):
            metrics[letter + name] = 100 * float(np.mean([measure(row) for row in rows]))
    return {'J&F': (metrics['J'] + metrics['F']) / 2, **metrics}
