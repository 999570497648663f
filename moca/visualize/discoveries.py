"""Boxes of LOST, with the seed patch that each grew from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import patches

from moca import figures
from moca.evaluation.backbones import NamedBackbone, read_input
from moca.evaluation.dense.keys import keys_and_features
from moca.evaluation.dense.lost import Discovery, discover
from moca.images.shown_names import shown_names

BOX, SEED = 'gold', 'red'
"""Colors."""


def discovery_sheet(
    backbones: Sequence[NamedBackbone],
    paths: Sequence[Path],
    size: Sequence[int],
    out: Path,
    features: str,
) -> None:
    """Draw the box that LOST finds in each image, and its seed patch.

    Args:
        backbones: See :func:`moca.evaluation.backbones.load_backbones`.
        paths: Of the images.
        size: See :func:`moca.evaluation.backbones.read_input`.
        out: Image to write.
        features: ``keys`` of the last attention, as published, or ``output``.

    Raises:
        UserError: An image cannot be decoded.
    """
    rows: list[list[Any]] = []
    found: list[tuple[Discovery, int]] = []
    for path in paths:
        rows.append([])
        for backbone in backbones:
            patch = backbone.model.patch_size
            image, tensor = read_input(path, size, backbone.model)
            maps = keys_and_features(backbone.model, tensor)[features == 'output'][0]
            rows[-1].append(image)
            found.append((discover(maps, (image.shape[0], image.shape[1]), patch), patch))
    what = 'keys' if features == 'keys' else 'output features'
    heading = f'LOST by {what}: box, and seed patch in {SEED}'
    titles = [backbone.name for backbone in backbones]
    names = [[name] for name in shown_names(paths)]
    figure = figures.sheet(rows, titles, heading, names=names)
    for axis, (discovery, patch) in zip(figure.axes, found, strict=True):
        draw_discovery(axis, discovery, patch)
    figures.save_figure(figure, out)


def draw_discovery(axis: Any, discovery: Discovery, patch: int) -> None:
    """Draw a box and its seed patch on an axis that shows their image."""
    row, column = discovery.seed
    seed = (column * patch, row * patch, (column + 1) * patch, (row + 1) * patch)
    for (x1, y1, x2, y2), color in ((discovery.box, BOX), (seed, SEED)):
        corner = x1 - 0.5, y1 - 0.5
        axis.add_patch(patches.Rectangle(corner, x2 - x1, y2 - y1, fill=False, ec=color, lw=1.8))
