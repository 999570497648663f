"""probe3d's correspondence of keypoints from recorded features."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from moca.evaluation.dense.correspondence import (
    drawn,
    errors,
    in_both,
    match,
    on_square,
    recall,
)
from moca.evaluation.dense.spair_data import keypoints_of, threshold_scale
from moca.evaluation.dense.square_padding import square_tensor
from moca.images.transforms import IMAGENET_MEAN, IMAGENET_STD
from tests.replay_dense.report import Report


def replay(facts: dict[str, Any], tensors: dict[str, Tensor], report: Report) -> None:
    """Replay input images, then every class and viewpoint group."""
    settings = facts['settings']
    for name in facts['annotations']:
        key = name.replace('/', '.')
        image = tensors[f'picture.{key}'].numpy()
        ours = square_tensor(image, settings['size'], IMAGENET_MEAN, IMAGENET_STD)
        report.close('input images', 1e-6, ours[:, ::4, ::4], tensors[f'input.{key}'], key)
    found = {
        group: replay_group(group, recorded, facts, tensors, report)
        for group, recorded in facts['groups'].items()
    }
    for name, theirs in facts.get('recall_all', {}).items():
        report.number('recall', 1e-5, found[f'{name}.all'], theirs / 100, name)


def replay_group(
    group: str,
    recorded: dict[str, Any],
    facts: dict[str, Any],
    tensors: dict[str, Tensor],
    report: Report,
) -> float:
    """The pairs that are drawn, and each of them; returns the recall in 0..1, -.01 for none."""
    category, _, viewpoint = group.rpartition('.')
    pairs = sorted(facts['pairs'], key=lambda pair: pair['filename'])
    mine = [
        pair
        for pair in pairs
        if pair['category'] == category and viewpoint in ('all', str(pair['viewpoint_variation']))
    ]
    mine = drawn(mine, facts['settings']['num_instances'])
    names = [pair['filename'] for pair in mine]
    right = names == [pair['pair'] for pair in recorded['pairs']]
    report.number('pairs', 0.0, float(right), 1.0, f'{group}: {names}')
    found = []
    for pair, theirs in zip(mine, recorded['pairs'], strict=True):
        found.append(
            replay_pair(f'{group}, {pair["filename"]}', pair, theirs, facts, tensors, report)
        )
    percent = recall(found)
    ours = -0.01 if percent is None else percent / 100
    report.number('recall', 1e-5, ours, recorded['recall'] / 100, group)
    return ours


def replay_pair(
    where: str,
    pair: dict[str, Any],
    theirs: dict[str, Any],
    facts: dict[str, Any],
    tensors: dict[str, Tensor],
    report: Report,
) -> NDArray[np.float64]:
    """Keypoints, best cells and errors of a pair; returns the errors."""
    size = facts['settings']['size']
    names = pair['filename'].rpartition(':')[0].split('-')[1:]
    points, maps = [], []
    for side, name in zip(('source', 'target'), names, strict=True):
        about = facts['annotations'][f'{pair["category"]}/{name}']
        scaled = on_square(keypoints_of(about['kps']), max(about['size_wh']), size)
        recorded = torch.tensor(theirs[f'{side}_keypoints'])
        report.same('keypoints', torch.from_numpy(scaled), recorded, f'{where}, {side}')
        points.append(scaled)
        maps.append(F.normalize(tensors[f'features.{pair["category"]}.{name}'], dim=0))
    scale = threshold_scale(pair['trg_bndbox'], pair['trg_imsize'])
    report.number('threshold', 1e-6, scale, theirs['threshold_scale'], where)
    asked = torch.from_numpy(points[0][:, :2])
    places, cells = match(maps[0], maps[1], asked, size, 0, 'probe3d')
    report.same('best cells', cells, torch.tensor(theirs['best_cell']), where)
    both = in_both(*points)
    report.same(
        'keypoints in both',
        torch.from_numpy(both),
        torch.tensor(theirs['keypoints_in_both'], dtype=torch.int64),
        where,
    )
    ours = errors(places[both], points[1][both], size, scale)
    report.close('errors', 1e-5, torch.from_numpy(ours), torch.tensor(theirs['errors']), where)
    return ours
