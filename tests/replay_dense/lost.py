"""LOST on recorded keys."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from moca.evaluation.dense.lost import discover, overlaps
from tests.replay_dense.report import Report


def replay(facts: dict[str, Any], tensors: dict[str, Tensor], report: Report) -> None:
    """Replay every case: degrees, candidates, seed, sum, box and its overlaps."""
    for case, about in facts.items():
        if f'{case}.keys' not in tensors:
            continue
        keys = tensors[f'{case}.keys'].T.unflatten(1, tuple(about['grid']))
        height, width = about['picture']
        found = discover(keys, (height, width), about['patch'], about['k'])
        tokens = keys.flatten(1).T
        report.close('similarities', 1e-5, tokens @ tokens.T, tensors[f'{case}.A'], case)
        report.same('degrees', found.degrees.flatten(), tensors[f'{case}.degrees'], case)
        report.close('sum', 1e-5, found.scores, tensors[f'{case}.M'], case)
        seed = found.seed[0] * about['grid'][1] + found.seed[1]
        report.number('seed', 0.0, seed, about['seed'], case)
        candidates = torch.tensor(sorted(about['candidates']))
        report.same('candidates', found.joined.sort().values, candidates, case)
        report.same('box', torch.tensor(found.box), torch.tensor(about['box']), case)
        ious = overlaps(found.box, tensors[f'{case}.true_boxes'].numpy())
        report.close('IoU', 1e-5, torch.from_numpy(ious), torch.tensor(about['iou']), case)
