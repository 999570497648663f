"""The sheets of tools/visualize.py that show what backbones make of any pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
import torch
from numpy.typing import NDArray

from moca.evaluation import pictures
from moca.evaluation.attention import class_attention
from moca.evaluation.backbones import NamedBackbone, read_input
from moca.evaluation.components import principal_colours

BRIGHTEST = 99.5
"""Percentile of a head's attention that is drawn brightest: single patches may have nearly all."""


@torch.no_grad()
def features_sheet(
    backbones: Sequence[NamedBackbone], paths: Sequence[Path], size: Sequence[int], out: Path
) -> None:
    """Principal components of the patch features of some backbones, side by side.

    Each backbone has components of its own, which all pictures share.

    Args:
        backbones: See :func:`moca.evaluation.backbones.load_backbones`.
        paths: Of the pictures.
        size: See :func:`moca.evaluation.backbones.read_input`.
        out: Picture to write.

    Raises:
        UserError: A picture cannot be decoded.
    """
    rows: list[list[Any]] = [[] for _ in paths]
    for backbone in backbones:
        maps = []
        for row, path in zip(rows, paths, strict=True):
            image, tensor = read_input(path, size, backbone.model)
            if not row:
                row.append(image)
            maps.append(backbone.model(tensor)[-1][0].float().cpu())
        for row, colours in zip(rows, principal_colours(maps), strict=True):
            row.append(colours)
    titles = ['picture', *(backbone.name for backbone in backbones)]
    heading = 'Patch features: first three principal components as red, green, blue'
    pictures.save_figure(pictures.sheet(rows, titles, heading), out)


def attention_sheet(
    backbones: Sequence[NamedBackbone], paths: Sequence[Path], size: Sequence[int], out: Path
) -> None:
    """What the class token attends to, on average over the heads and in each of them.

    Several backbones take a row each below every picture. Arguments as for `features_sheet`.

    Raises:
        UserError: A picture cannot be decoded, or a backbone's attention not be drawn.
    """
    rows: list[list[Any]] = []
    for path in paths:
        for number, backbone in enumerate(backbones):
            image, tensor = read_input(path, size, backbone.model)
            heads = class_attention(backbone.model, tensor)[0].float().cpu().numpy()
            shown = [attention_over(image, weights) for weights in (heads.mean(0), *heads)]
            rows.append([image if number == 0 else None, *shown])
    most = max(map(len, rows))
    rows = [[*row, *[None] * (most - len(row))] for row in rows]
    titles = ['picture', 'mean of heads', *(f'head {head}' for head in range(most - 2))]
    blocks = [max(backbone.model.out_indices) for backbone in backbones]
    names = [backbone.name for backbone in backbones]
    heading = "The class token's attention to patches"
    if len(set(blocks)) == 1:
        heading += f' in block {blocks[0]}'
    else:
        names = [f'{name}, block {block}' for name, block in zip(names, blocks, strict=True)]
    many = len(backbones) > 1
    heading += '' if many else f': {names[0]}'
    figure = pictures.sheet(rows, titles, heading, indent=many)
    for line in range(len(rows) if many else 0):
        pictures.row_title(figure.axes[line * most], names[line % len(names)])
    pictures.save_figure(figure, out)


def attention_over(image: pictures.Image, weights: NDArray[np.float32]) -> pictures.Image:
    """Lay a map of attention over its picture.

    Args:
        image: `[H, W, 3]`.
        weights: `[h, w]`, not negative; each patch becomes a block of pixels.

    Returns:
        `[H, W, 3]`: the picture in grey, coloured from dark to bright by the attention.
    """
    level = np.clip(weights / max(float(np.percentile(weights, BRIGHTEST)), 1e-12), 0, 1)
    size = (image.shape[1], image.shape[0])
    level = cv2.resize(level.astype(np.float32), size, interpolation=cv2.INTER_NEAREST)
    colours = 255 * matplotlib.colormaps['inferno'](level)[..., :3]
    return pictures.blend(image, colours, share=0.75)
