"""Keypoints of SPair-71k that backbones find in another image, as lines between both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from moca import figures
from moca.errors import UserError
from moca.evaluation.backbones import NamedBackbone
from moca.evaluation.dense.correspondence import SHARE, errors, in_both
from moca.evaluation.dense.spair import MapsOfImages, matched, square_points
from moca.evaluation.dense.spair_data import (
    KeypointImage,
    KeypointPair,
    SPairData,
    read_image,
    read_spair,
)
from moca.evaluation.dense.square_padding import square_tensor
from moca.images.files import evenly_spread

RIGHT, WRONG, TRUE = 'limegreen', 'red', 'white'
"""Colors of lines, and of rings around the true places of wrong ones."""


def correspondence_sheet(
    backbones: Sequence[NamedBackbone],
    root: Path,
    out: Path,
    count: int,
    size: int,
    split: str = 'test',
    category: str | None = None,
) -> None:
    """Draw pairs of images, and lines from keypoints to where each backbone finds them.

    Features are those after the final norm, in the alignment ``centered``.

    Args:
        backbones: See :func:`moca.evaluation.backbones.load_backbones`.
        root: The folder ``SPair-71k``.
        out: Image to write.
        count: How many pairs.
        size: Side of the square images in pixels.
        split: Of the pairs.
        category: Of the pairs; None for all.

    Raises:
        UserError: The data cannot be read, or have no such pair.
    """
    data = read_spair(root, split, '--data-root')
    pairs = _some_pairs(data, category, count)
    rows, lines = [], []
    for pair in pairs:
        images = [data.images[pair.category, name] for name in (pair.source, pair.target)]
        shown = np.hstack([_square(image, size) for image in images])
        rows.append([shown] * len(backbones))
    for backbone in backbones:
        lines.append([_matches(backbone, data, pair, size) for pair in pairs])
    titles = [
        f'{backbone.name}: {100 * np.mean(np.concatenate([m[2] for m in column])):.0f} % right'
        for backbone, column in zip(backbones, lines, strict=True)
    ]
    heading = f'Keypoints found within {SHARE:g} of the box (green), and not'
    names = [[f'{pair.category}: {pair.source}, {pair.target}'] for pair in pairs]
    figure = figures.sheet(rows, titles, heading, names=names)
    for place, axis in enumerate(figure.axes):
        row, column = divmod(place, len(backbones))
        draw_matches(axis, *lines[column][row], size)
    figures.save_figure(figure, out)


def _some_pairs(data: SPairData, category: str | None, count: int) -> list[KeypointPair]:
    if category is not None and category not in data.categories:
        known = ', '.join(data.categories)
        raise UserError(f'--category {category}: no pair of it. Give one of {known}.')
    mine = [pair for pair in data.pairs if category in (None, pair.category)]
    mine = [pair for pair in mine if len(_common(data, pair))]
    if not mine:
        raise UserError('--data-root: no pair has a keypoint that is visible in both images.')
    return [mine[place] for place in evenly_spread(len(mine), count)]


def _common(data: SPairData, pair: KeypointPair) -> NDArray[np.int64]:
    points = [data.images[pair.category, name].points for name in (pair.source, pair.target)]
    return np.flatnonzero(points[0][:, 2] * points[1][:, 2] == 1)


def _square(image: KeypointImage, size: int) -> figures.Image:
    pixels = square_tensor(read_image(image), size, (0.0,) * 3, (1.0,) * 3)
    return np.asarray(Image.fromarray((255 * pixels).round().byte().permute(1, 2, 0).numpy()))


def _matches(
    backbone: NamedBackbone, data: SPairData, pair: KeypointPair, size: int
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_], NDArray[Any]]:
    """Keypoints ``[K, 2]``, where they are found, whether that is right, where they are."""
    images = [data.images[pair.category, name] for name in (pair.source, pair.target)]
    points = [square_points(image, size) for image in images]
    both = in_both(*points)
    kept = [each[both] for each in points]
    maps = MapsOfImages(backbone.model, size)
    places = matched(maps, images, kept, True, 'centered')
    off = errors(places, kept[1], size, pair.threshold_scale)
    return kept[0][:, :2], places.cpu().numpy() * size, off < SHARE, kept[1][:, :2]


def draw_matches(
    axis: Any,
    points: NDArray[Any],
    places: NDArray[Any],
    right: NDArray[np.bool_],
    true: NDArray[Any],
    size: int,
) -> None:
    """Draw lines between two square images that an axis shows side by side.

    Args:
        axis: Of matplotlib.
        points: ``[K, 2]``, x and y in the left image.
        places: The same in the right one, where they were found.
        right: ``[K]``.
        true: ``[K, 2]``, where they are in the right image.
        size: Side of the images in pixels.
    """
    for point, place, fine, truth in zip(points, places, right, true, strict=True):
        color = RIGHT if fine else WRONG
        axis.plot([point[0], place[0] + size], [point[1], place[1]], color=color, lw=0.9)
        axis.plot(*point, 'o', color=color, ms=3)
        axis.plot(place[0] + size, place[1], 'o', color=color, ms=3)
        if not fine:
            axis.plot(truth[0] + size, truth[1], 'o', mfc='none', mec=TRUE, ms=5)
    axis.set_xlim(-0.5, 2 * size - 0.5)
    axis.set_ylim(size - 0.5, -0.5)
