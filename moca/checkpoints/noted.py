"""What a run of ours, or a file exported from any encoder, says that no tensor shows."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from moca.checkpoints.names.trunk import IMAGENET, Statistics
from moca.checkpoints.reading import exported_notes, run_config


@dataclass(frozen=True)
class Noted:
    """Settings of an encoder, None where nothing is said.

    Attributes:
        statistics: Mean and deviation of its inputs, of pixels from 0 to 1.
        norm_eps: Of its norms.
        interpolation: How its positions are resampled.
        said_by: Who says so.
        grid: Rows and columns of its positions, where they are not square.
    """

    statistics: Statistics | None = None
    norm_eps: float | None = None
    interpolation: str | None = None
    said_by: str = ''
    grid: tuple[int, int] | None = None


def noted_settings(content: Mapping[str, Any], patch: int) -> Noted:
    """What the config of a run of ours, or the notes of an exported file, say.

    Args:
        content: What :func:`moca.checkpoints.reading.read_file` returned.
        patch: Pixels of a patch in the file.
    """
    notes = exported_notes(content)
    if notes:
        return Noted(
            _statistics(_json(notes.get('mean')), _json(notes.get('std')), 1),
            _json(notes.get('norm_eps')),
            notes.get('interpolation'),
            'its notes',
            _oblong(_json(notes.get('grid')), 1),
        )
    cfg = run_config(content)
    model = cfg.get('model') or {}
    backbone = model.get('backbone') if isinstance(model, Mapping) else None
    if not isinstance(backbone, Mapping) or backbone.get('type') != 'PlainViT':
        return Noted()
    dataset = (cfg.get('train_dataloader') or {}).get('dataset') or {}
    views, pixels = dataset.get('views') or {}, model.get('data_preprocessor') or {}
    if {'mean', 'std'} & views.keys():  # of pre-training
        mean, std = IMAGENET
        found = _statistics(views.get('mean') or mean, views.get('std') or std, 1)
    else:
        found = _statistics(pixels.get('mean'), pixels.get('std'), 255)
    return Noted(
        *(found, backbone.get('norm_eps'), backbone.get('interpolation'), 'its run'),
        grid=_oblong(backbone.get('img_size'), patch),
    )


def notes_of(
    statistics: Statistics | None,
    norm_eps: float | None,
    interpolation: str | None,
    grid: tuple[int, int] | None = None,
) -> dict[str, str]:
    """The notes of an exported file that `noted_settings` reads."""
    found: dict[str, Any] = {'norm_eps': norm_eps, 'grid': grid}
    if statistics is not None:
        found |= {'mean': statistics[0], 'std': statistics[1]}
    notes = {key: json.dumps(value) for key, value in found.items() if value is not None}
    return notes if interpolation is None else {**notes, 'interpolation': interpolation}


def _statistics(mean: Any, std: Any, scale: float) -> Statistics | None:
    """Three numbers each, in the range from 0 to 1; None if they are something else."""
    if mean is None or std is None:
        return None
    try:
        (red, green, blue), (first, second, third) = (
            [round(float(value) / scale, 6) for value in part] for part in (mean, std)
        )
    except (TypeError, ValueError):
        return None
    return (red, green, blue), (first, second, third)


def _oblong(sides: Any, patch: int) -> tuple[int, int] | None:
    """Rows and columns of patches on an image of a height and a width; None for a square."""
    if not isinstance(sides, list | tuple) or len(sides) != 2 or sides[0] == sides[1]:
        return None
    try:
        return math.ceil(sides[0] / patch), math.ceil(sides[1] / patch)
    except TypeError:
        return None


def _json(text: str | None) -> Any:
    try:
        return None if text is None else json.loads(text)
    except ValueError:
        return None
