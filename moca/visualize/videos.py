"""Propagated masks of a video: a strip of frames, and an animation."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from moca import figures
from moca.errors import UserError
from moca.evaluation.backbones import NamedBackbone
from moca.evaluation.dense.davis import chosen_preset, propagated
from moca.evaluation.dense.video_data import read_frame, read_labels, without_void
from moca.images.files import evenly_spread, list_images
from moca.images.shown_names import shown_names
from moca.records.whole_files import write_atomically

OPACITY = 0.55
"""Of an object's color over its pixels."""

FRAME_MILLISECONDS = 100
"""How long the animation shows a frame."""


def video_sheet(
    backbones: Sequence[NamedBackbone],
    folder: Path,
    mask: Path,
    preset: str,
    out: Path,
    count: int,
    short_side: int | None = None,
) -> None:
    """Draw what becomes of the first frame's mask, a row for each backbone.

    Args:
        backbones: See :func:`moca.evaluation.backbones.load_backbones`.
        folder: Of the frames, in the order of their names.
        mask: Label map of the first frame: 0 background, n the n-th object, 255 void.
        preset: One of :data:`moca.evaluation.dense.video_frames.PRESETS`.
        out: What to write. A ``.gif`` is the animation of all frames, an ``.html`` page has both
            it and the strip, and any other image is the strip.
        count: How many frames the strip has, the first and the last among them.
        short_side: Of the frames in pixels for patches of 16; None as the preset says.

    Raises:
        UserError: A file cannot be read, the mask is not of the frames' size, or there is no
            second frame.
    """
    how = chosen_preset(preset, short_side)
    paths = list_images(folder, '--frames')
    first = without_void(read_labels(mask))
    frames = [read_frame(path) for path in paths]
    if len(frames) < 2:
        raise UserError(f'--frames {folder}: one frame is no video. Give two or more.')
    wrong = [path for path, f in zip(paths, frames, strict=True) if f.shape[:2] != first.shape]
    if wrong:
        raise UserError(
            f'--mask {mask}: {first.shape[1]} x {first.shape[0]} pixels, which {wrong[0]} has not. '
            'Give the label map of the first frame, and frames of one size.'
        )
    shown = []
    for backbone in backbones:
        found = [first, *propagated(backbone.model, paths, first, how)]
        shown.append([over(*pair) for pair in zip(frames, found, strict=True)])
    names = [backbone.name for backbone in backbones]
    if out.suffix == '.gif':
        write_atomically(out, animation(shown))
        return
    places = evenly_spread(len(frames), count)
    rows = [[row[place] for place in places] for row in shown]
    titles = [f'frame {place + 1}' for place in places]
    heading = f'Masks propagated from the first frame ({preset})'
    many = len(names) > 1
    heading += '' if many else f': {names[0]}'
    files = [*[[]] * (len(rows) - 1), shown_names([paths[place] for place in places])]
    figure = figures.sheet(rows, titles, heading, indent=many, names=files)
    for line, name in enumerate(names if many else ()):
        figures.row_title(figure.axes[line * len(places)], name)
    moving = animation(shown) if out.suffix == '.html' else None
    figures.save_figure(figure, out, moving)


def over(frame: figures.Image, labels: NDArray[np.uint8]) -> figures.Image:
    """Lay the colors of objects over a frame ``[H, W, 3]``; labels ``[H, W]``, 0 for none."""
    table = np.array([(0, 0, 0), *figures.distinct_colors(int(labels.max()))])
    mixed = (1 - OPACITY) * frame + OPACITY * table[labels]
    return np.where((labels > 0)[..., None], mixed, frame).astype(np.uint8)


def animation(rows: Sequence[Sequence[figures.Image]]) -> bytes:
    """A GIF that repeats, of several videos beside each other.

    Args:
        rows: Frames ``[H, W, 3]`` of each video, equally many of one size.
    """
    frames = [Image.fromarray(np.hstack(moment)) for moment in zip(*rows, strict=True)]
    buffer = io.BytesIO()
    frames[0].save(
        buffer,
        format='GIF',
        save_all=True,
        append_images=frames[1:],
        duration=FRAME_MILLISECONDS,
        loop=0,
    )
    return buffer.getvalue()
