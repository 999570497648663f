"""Predict with exported segmentors of any image size: numpy and onnxruntime, and nothing else.

This file can be copied out of the suite.

Example:
    >>> segment = SlidingWindow('window.onnx')  # of tools/export.py --logits
    >>> labels = segment(image)  # [H, W, 3] uint8, RGB -> [H, W] int64
"""

from __future__ import annotations

import json
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class SlidingWindow:
    """A segmentor whose graph takes one window, slid over images of any size.

    Logits of the windows are enlarged bilinearly to pixels and averaged, as mmseg does; all of that
    is one product of small matrices for each side of the image.

    Args:
        path: Of an ONNX file that `tools/export.py` wrote with ``--logits``.
        windows: How many go through the network together.
        providers: Of onnxruntime.

    Raises:
        ValueError: The file's output is not logits.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        windows: int = 4,
        providers: tuple[str, ...] = ('CPUExecutionProvider',),
    ) -> None:
        import onnxruntime

        self.session = onnxruntime.InferenceSession(str(path), providers=list(providers))
        self.windows = windows
        self.notes = json.loads(self.session.get_modelmeta().custom_metadata_map['moca'])
        if self.notes.get('output') != 'logits':
            raise ValueError(f'{path}: gives no logits of windows. Export it with --logits.')

    def __call__(self, image: Array) -> Array:
        """The class of each pixel, ``[H, W]`` int64.

        Args:
            image: ``[H, W, 3]``, RGB of 0 to 255, of any size.
        """
        scores = self.scores(image)
        if len(scores) > 1:
            return scores.argmax(0)
        return (1 / (1 + np.exp(-scores[0])) > self.notes['threshold']).astype(np.int64)

    def scores(self, image: Array) -> Array:
        """Mean logits of all windows, ``[classes, H, W]``."""
        planes = np.ascontiguousarray(image.transpose(2, 0, 1), np.float32)
        height, width = planes.shape[1:]
        window, stride = self.notes['window'], self.notes['stride']
        # an image that is smaller than a window is filled up, and what is beyond it cut off again
        fill = [(0, max(side - of, 0)) for side, of in zip(window, (height, width), strict=True)]
        planes = np.pad(planes, ((0, 0), *fill))
        rows, columns = (
            starts(*axis) for axis in zip(planes.shape[1:], window, stride, strict=True)
        )
        crops = [planes[:, y : y + window[0], x : x + window[1]] for y in rows for x in columns]
        found = [
            self.session.run(['logits'], {'image': np.stack(crops[n : n + self.windows])})[0]
            for n in range(0, len(crops), self.windows)
        ]
        logits = np.concatenate(found)
        cells = logits.shape[2:]
        grid = logits.reshape(len(rows), len(columns), *logits.shape[1:])
        grid = grid.transpose(2, 0, 3, 1, 4).reshape(
            logits.shape[1], len(rows) * cells[0], len(columns) * cells[1]
        )
        aligned = bool(self.notes['align_corners'])
        down = merging(planes.shape[1], rows, window[0], cells[0], aligned)[:height]
        across = merging(planes.shape[2], columns, window[1], cells[1], aligned)[:width]
        merged: Array = down @ (grid @ across.T)
        return merged


def starts(size: int, window: int, stride: int) -> list[int]:
    """The first pixel of each window along one side; the last ones are moved in, as mmseg does."""
    number = max(size - window + stride - 1, 0) // stride + 1
    return [min(place * stride, size - window) for place in range(number)]


def merging(size: int, places: list[int], window: int, cells: int, aligned: bool) -> Array:
    """How each pixel of one side depends on the logits of all windows along it.

    Args:
        size: Of the image in pixels.
        places: First pixels of the windows.
        window: Their length.
        cells: Resolution of a window's logits.
        aligned: Whether corners are aligned in bilinear resizing.

    Returns:
        ``[size, windows * cells]`` float32, each row of sum 1.
    """
    enlarged = bilinear(cells, window, aligned)
    matrix = np.zeros((size, len(places), cells), np.float32)
    count = np.zeros((size, 1), np.float32)
    for number, place in enumerate(places):
        matrix[place : place + window, number] = enlarged
        count[place : place + window] += 1
    merged: Array = matrix.reshape(size, -1) / count
    return merged


def bilinear(before: int, after: int, aligned: bool = False) -> Array:
    """The matrix ``[after, before]`` of torch's bilinear resizing of one side."""
    place: Array = np.arange(after, dtype=np.float64)
    if aligned:
        place = place * ((before - 1) / max(after - 1, 1))
    else:
        place = np.clip((place + 0.5) * before / after - 0.5, 0, None)
    low = np.minimum(place.astype(np.int64), before - 1)
    high = np.minimum(low + 1, before - 1)
    weight = place - low
    matrix = np.zeros((after, before))
    np.add.at(matrix, (np.arange(after), low), 1 - weight)
    np.add.at(matrix, (np.arange(after), high), weight)
    return matrix.astype(np.float32)


def paste(mask: Array, box: Array, height: int, width: int) -> Array:
    """A detector's mask laid into the image, ``[H, W]``: probabilities, 0 beyond the box.

    Args:
        mask: Probabilities in the box, ``[h, w]``.
        box: x and y of the upper left and the lower right corner, in pixels.
        height: Of the image.
        width: Of the image.
    """
    down = _sampling(height, mask.shape[0], float(box[1]), float(box[3]))
    across = _sampling(width, mask.shape[1], float(box[0]), float(box[2]))
    pasted: Array = down @ mask @ across.T
    return pasted


def _sampling(size: int, cells: int, low: float, high: float) -> Array:
    """How each of `size` pixels samples cells that lie from `low` to `high`; zeros outside."""
    place = (np.arange(size) + 0.5 - low) / max(high - low, 1e-6) * cells - 0.5
    distance = np.abs(place[:, None] - np.arange(cells)[None])
    weights: Array = np.clip(1 - distance, 0, None).astype(np.float32)
    return weights
