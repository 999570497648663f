"""Sheets of images and depth maps with one scale of depth for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from numpy.typing import NDArray

from moca import figures

_DEPTHS = 'turbo_r'  # near is red, far is blue
_SCALE_INCHES = 0.42


def color_depth(depth: NDArray[Any], lowest: float, highest: float) -> figures.Image:
    """Color a depth map `[H, W]` from red (lowest) to blue; 0, which is no depth, is black."""
    share = (np.asarray(depth, np.float64) - lowest) / max(highest - lowest, 1e-9)
    colors = colormaps[_DEPTHS](np.clip(share, 0, 1), bytes=True)[..., :3]
    return np.where((np.asarray(depth) > 0)[..., None], colors, 0).astype(np.uint8)


def depth_sheet(
    rows: Sequence[Sequence[Any]],
    titles: Sequence[str],
    heading: str,
    names: Sequence[Sequence[str]] = (),
) -> Any:
    """A :func:`moca.figures.sheet` of images and depth maps, with one scale of depth below.

    Args:
        rows: Images `[H, W, 3]`, and depth maps `[H, W]` in meters, 0 where there is none.
        titles: One a column.
        heading: Above all.
        names: Of the files, as `sheet` takes them.
    """
    depths = [part[part > 0] for row in rows for part in row if part is not None and part.ndim == 2]
    values = np.concatenate([*depths, np.zeros(0)])
    lowest, highest = (values.min(), values.max()) if len(values) else (0.0, 1.0)
    colored = [
        [
            part if part is None or part.ndim == 3 else color_depth(part, lowest, highest)
            for part in row
        ]
        for row in rows
    ]
    figure = figures.sheet(colored, titles, heading, _SCALE_INCHES, names=names)
    high = figure.get_figheight()
    axis = figure.add_axes((0.25, 0.25 / high, 0.5, 0.1 / high))
    scale = ScalarMappable(Normalize(lowest, highest), _DEPTHS)
    bar = figure.colorbar(scale, cax=axis, orientation='horizontal')
    bar.ax.tick_params(labelsize=7, length=2, pad=1)
    bar.ax.text(1.02, 0.5, 'm', fontsize=7, va='center', transform=bar.ax.transAxes)
    return figure
