"""Propagation through recorded videos, and the official metric on recorded masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moca.evaluation.dense.propagation import (
    Propagation,
    labels_on_grid,
    propagate_video,
)
from moca.evaluation.dense.video_frames import PRESETS, dino_size, label_map
from moca.evaluation.dense.video_metric import (
    VideoScores,
    davis_metrics,
    decay,
    recall,
    score_video,
)
from tests.replay_dense.report import Report


def replay(facts: dict[str, Any], tensors: dict[str, Tensor], report: Report) -> None:
    """Replay all videos, then the metric."""
    for name, clip in facts['clips'].items():
        replay_clip(name, {**facts['settings']['clips'].get(name, {}), **clip}, tensors, report)
    scores = [replay_metric(name, about, tensors, report) for name, about in scored(facts)]
    if not scores:
        return
    ours = davis_metrics(scores)
    names = {'JF_mean': 'J&F', 'J_mean': 'J', 'F_mean': 'F'}
    for name, theirs in facts['metric_total'].items():
        if name == 'objects':
            count = sum(len(video.regions) for video in scores)
            report.number('objects', 0.0, count, theirs)
        else:
            report.number('J and F', 1e-6, ours[names.get(name, name)] / 100, theirs, name)


def replay_clip(
    name: str, clip: dict[str, Any], tensors: dict[str, Tensor], report: Report
) -> None:
    """Size, first labels, soft labels and label maps of a video."""
    height, width = clip['size']
    size = dino_size(height, width, clip['patch'], clip['short'])
    report.same('size', torch.tensor(size), torch.tensor(clip['network_size']), name)
    grid = size[0] // clip['patch'], size[1] // clip['patch']
    first = labels_on_grid(tensors[f'{name}.first_mask'].numpy(), grid, 'pillow')
    theirs = tensors[f'{name}.first_soft']
    report.same('first labels', first[: len(theirs)], theirs, name)
    # the source has no channel of an object that the small mask lost
    report.number('lost objects', 0.0, float(first[len(theirs) :].sum()), 0.0, name)
    preset = PRESETS['dino']
    how = Propagation(
        preset.propagation.temperature, 'square', clip['radius'], clip['topk'], clip['last']
    )
    frames = [frame.T.unflatten(1, grid) for frame in tensors[f'{name}.features']]
    recorded = tensors[f'{name}.soft']
    labels = [tensors[f'{name}.first_mask'].numpy()]
    for time, soft in enumerate(propagate_video(frames, first, how)):
        report.close('soft labels', 1e-5, soft[: len(theirs)], recorded[time], f'{name}, {time}')
        labels.append(label_map(soft, size, (height, width), preset))
    report.same('label maps', torch.from_numpy(np.stack(labels)), tensors[f'{name}.labels'], name)


def scored(facts: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Videos of the metric."""
    return list(facts['metric'].items())


def replay_metric(
    name: str, about: dict[str, Any], tensors: dict[str, Tensor], report: Report
) -> VideoScores:
    """J and F of every object and frame, and their statistics."""
    truth, found = (painted(name, kind, about, tensors) for kind in ('truth', 'result'))
    scores = score_video(truth, found, name)
    for letter, ours in (('J', scores.regions), ('F', scores.boundaries)):
        theirs = np.array(about[f'{letter}_per_object_and_frame'])
        report.close('J and F', 1e-6, torch.from_numpy(ours), torch.from_numpy(theirs), name)
        for values, statistics in zip(ours, about[letter], strict=True):
            for kind, measure in (('mean', np.mean), ('recall', recall), ('decay', decay)):
                where = f'{name}, {letter} {kind}'
                report.number('J and F', 1e-6, float(measure(values)), statistics[kind], where)
    return scores


def painted(
    name: str, kind: str, about: dict[str, Any], tensors: dict[str, Tensor]
) -> list[NDArray[np.uint8]]:
    """Label maps from rectangles, or from tensors."""
    if kind not in about:
        return list(tensors[f'{name}.{kind}'].numpy())
    maps = []
    for rectangles in about[kind]:
        labels = np.zeros(about['size'], np.uint8)
        for value, top, bottom, left, right in rectangles:
            labels[top:bottom, left:right] = value
        maps.append(labels)
    return maps
