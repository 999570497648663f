"""What models say of an image, as arrays of numpy with the names of the classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moca.predict.shown import Brief


@dataclass(frozen=True, eq=False, repr=False)
class Segmentation(Brief):
    """The class of each pixel.

    Attributes:
        mask: Numbers of classes ``[H, W]``, int64.
        classes: Names; ``classes[mask[y, x]]`` is that of a pixel.
    """

    mask: NDArray[np.int64]
    classes: tuple[str, ...]


@dataclass(frozen=True, eq=False, repr=False)
class Detections(Brief):
    """Objects, the surest first.

    Attributes:
        boxes: ``[N, 4]`` float32, left, top, right and bottom in pixels.
        labels: Numbers of classes ``[N]``, int64.
        scores: ``[N]`` float32, in 0..1.
        masks: ``[N, H, W]`` bool; None of a model that finds boxes only.
        classes: Names; ``classes[labels[i]]`` is that of an object.
    """

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]
    masks: NDArray[np.bool_] | None
    classes: tuple[str, ...]


@dataclass(frozen=True)
class PanopticSegment:
    """One segment: its id in the map, the number of its class, and whether that is of things."""

    id: int
    label: int
    is_thing: bool


@dataclass(frozen=True, eq=False, repr=False)
class Panoptic(Brief):
    """Things and stuff, each pixel in one segment at most.

    Attributes:
        ids: Of the segment of each pixel ``[H, W]``, int32, from 1 on; 0 is none.
        segments: In the order of their ids.
        classes: Names; ``classes[segment.label]`` is that of a segment.
    """

    ids: NDArray[np.int32]
    segments: tuple[PanopticSegment, ...]
    classes: tuple[str, ...]


@dataclass(frozen=True, eq=False, repr=False)
class Depth(Brief):
    """The distance of each pixel.

    Attributes:
        meters: ``[H, W]`` float32.
    """

    meters: NDArray[np.float32]


@dataclass(frozen=True, eq=False, repr=False)
class Classification(Brief):
    """The class of a whole image.

    Attributes:
        label: Number of the class with the highest score.
        scores: Of all classes, ``[K]`` float32; they sum to 1.
        classes: Names; ``classes[label]`` is that of the image.
    """

    label: int
    scores: NDArray[np.float32]
    classes: tuple[str, ...]


Result = Segmentation | Detections | Panoptic | Depth | Classification
