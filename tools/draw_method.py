"""Draw the figure of MOCA that the README shows.

Example:
    python tools/draw_method.py docs/img/method.png
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

GRID = 6
VIEWS = '#9dbde3'
TEACHER = '#f6dfc5'
STUDENT = '#cfe8d5'
CODEBOOK = '#e6dcf2'
LOSS = '#f5d0d0'


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('out', type=Path, help='image to write: .png, .pdf or .svg')
    return parser.parse_args(argv)


def draw(out: Path) -> None:
    """Draw one step: teacher and targets above, student and predictions below."""
    from moca.figures import plt, save_figure  # matplotlib takes a second to import

    figure, axes = plt.subplots(figsize=(11, 4.6))
    axes.set(xlim=(0, 110), ylim=(0, 46))
    axes.axis('off')
    order = np.random.default_rng(3).permutation(GRID * GRID)
    for x in (13, 2):
        _tokens(axes, x, 29, np.ones(GRID * GRID, bool))
    axes.text(12.5, 41, 'two views, whole', ha='center', fontsize=9, color='0.3')
    _tokens(axes, 2, 12, np.isin(np.arange(GRID * GRID), order[:16]))
    visible = np.isin(np.arange(GRID * GRID), order[16:25])
    _tokens(axes, 13, 12, visible)
    axes.text(12.5, 9.5, 'two complementary masks of each', ha='center', fontsize=9, color='0.3')

    _box(axes, 28, 29, 16, 10, 'teacher ViT', TEACHER)
    _box(axes, 52, 29, 18, 10, 'assignments $q$\nto $K$ words', CODEBOOK)
    _box(axes, 28, 12, 16, 10, 'student ViT', STUDENT)
    _box(axes, 52, 12, 18, 10, 'condenser\ndecoder', STUDENT)
    _box(axes, 52, 1, 18, 7, 'prototypes $W(E)$', CODEBOOK)
    _box(axes, 88, 29, 20, 10, 'image loss\n$KL(\\bar{q}\\,||\\,\\cdot)$', LOSS)
    _box(axes, 88, 12, 20, 10, 'dense loss\n$KL(q\\,||\\,\\cdot)$', LOSS)

    _arrow(axes, (24, 34), (28, 34))
    _arrow(axes, (24, 17), (28, 17))
    _arrow(axes, (44, 34), (52, 34), 'tokens')
    _arrow(axes, (44, 17), (52, 17), 'block 8', below=True)
    _arrow(axes, (70, 35), (88, 35), 'mean of the other view')
    _arrow(axes, (66, 29), (90, 22), 'each token, same view', shift=(9, 0.6))
    _arrow(axes, (70, 15), (88, 15), 'every decoded token', below=True)
    _arrow(axes, (42, 22), (88, 31), 'mean token', shift=(-10, -2.9))
    _arrow(axes, (36, 22), (36, 29), 'EMA', dashed=True, shift=(-3, 0))
    axes.annotate(
        'a few tokens replace the oldest words',
        (61, 39.3),
        (36, 44),
        fontsize=9,
        color='0.3',
        va='center',
        arrowprops=dict(arrowstyle='->', color='0.4', ls='--', connectionstyle='arc3,rad=-0.15'),
    )
    _arrow(axes, (70, 4.5), (98, 12), 'logits of both losses', below=True, shift=(5, -0.6))
    axes.text(46, 4.5, 'codebook $E$ ', ha='right', va='center', fontsize=9, color='0.3')
    _arrow(axes, (46, 4.5), (52, 4.5))
    figure.subplots_adjust(0, 0, 1, 1)
    save_figure(figure, out)


def _box(axes: Any, x: float, y: float, width: float, height: float, text: str, color: str) -> None:
    from matplotlib.patches import FancyBboxPatch

    style = 'round,pad=0,rounding_size=1.2'
    axes.add_patch(FancyBboxPatch((x, y), width, height, style, fc=color, ec='0.45', lw=1))
    axes.text(x + width / 2, y + height / 2, text, ha='center', va='center', fontsize=11)


def _tokens(axes: Any, x: float, y: float, shown: np.ndarray) -> None:
    """Draw a view as its patch tokens; hidden ones are left white."""
    from matplotlib.patches import Rectangle

    side = 10 / GRID
    for place, seen in enumerate(shown):
        row, column = divmod(place, GRID)
        corner = (x + column * side, y + (GRID - 1 - row) * side)
        color = VIEWS if seen else 'white'
        axes.add_patch(Rectangle(corner, side, side, fc=color, ec='0.6', lw=0.6))


def _arrow(
    axes: Any,
    start: tuple[float, float],
    end: tuple[float, float],
    text: str = '',
    *,
    below: bool = False,
    dashed: bool = False,
    shift: tuple[float, float] = (0, 0),
) -> None:
    style = dict(arrowstyle='-|>', color='0.3', lw=1.3, ls='--' if dashed else '-')
    axes.annotate('', end, start, arrowprops={**style, 'shrinkA': 1, 'shrinkB': 1})
    # on white, so that no line runs through the words
    words: Any = dict(ha='center', va='center', fontsize=9, bbox=dict(fc='white', ec='none', pad=1))
    x, y = ((a + b) / 2 + move for a, b, move in zip(start, end, shift, strict=True))
    axes.text(x, y + (-1.8 if below else 1.2), text, **words)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the figure."""
    args = parse_args(argv)
    from moca.engine.cli import main_guard  # takes seconds, which --help need not

    return main_guard(draw)(args.out)


if __name__ == '__main__':
    sys.exit(main())
