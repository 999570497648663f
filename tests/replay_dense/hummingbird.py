"""In-context segmentation as open-hummingbird-eval computes it, from recorded features."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from moca.evaluation.dense.confusion import Confusion, hungarian, miou_hungarian, miou_identity
from moca.evaluation.dense.patch_labels import class_shares
from moca.evaluation.dense.sampling import rows_per_image, sample_scarce
from moca.evaluation.dense.search import BankSearch
from moca.evaluation.dense.soft_vote import label_maps, soft_vote
from moca.segmentation.label_maps import IGNORE
from tests.replay_dense.report import EXACT, Report

ROUNDING = 1e-6
"""Difference of cosines below which fp32 may order two neighbors either way."""


def replay(facts: dict[str, Any], tensors: dict[str, Tensor], report: Report) -> None:
    """Replay every case."""
    settings = facts['settings']
    for case, about in settings['cases'].items():
        features, shares = build_bank(case, facts, tensors, report)
        rows = tensors.get(f'{case}.bank.features')
        if rows is not None:
            report.close('bank features', 1e-5, F.normalize(features, dim=1), rows, case)
            report.same('bank labels', shares, tensors[f'{case}.bank.labels'], case)
        queries = tensors[f'{case}.val.features']
        count = min(about['k'], len(features))
        cosine, numbers = BankSearch(features).nearest(queries.flatten(0, 1), count)
        neighbors = tensors[f'{case}.neighbours']
        compare_neighbors(queries, features, numbers.view(neighbors.shape), neighbors, report, case)
        voted = soft_vote(cosine, shares[numbers], settings.get('temperature', 0.02))
        distributions = voted.view(*queries.shape[:2], -1)
        report.close('distributions', 1e-5, distributions, tensors[f'{case}.distribution'], case)
        truth = tensors[f'{case}.val.labels']
        size = (truth.shape[1], truth.shape[2])
        maps = label_maps(distributions, (settings['grid'], settings['grid']), size)
        report.same('label maps', maps, tensors[f'{case}.prediction'], case)
        compare_scores(case, about, facts[case], truth, maps, report)


def compare_neighbors(
    queries: Tensor, bank: Tensor, ours: Tensor, theirs: Tensor, report: Report, case: str
) -> None:
    """How many neighbors differ, but for those that are equally near to fp32's rounding."""
    queries, bank = (F.normalize(part.double(), dim=-1) for part in (queries, bank))
    nearness = queries @ bank.T
    gap = (nearness.gather(2, ours) - nearness.gather(2, theirs)).abs()
    report.add('neighbors', EXACT, float(((ours != theirs) & (gap > ROUNDING)).sum()), case)


def build_bank(
    case: str, facts: dict[str, Any], tensors: dict[str, Tensor], report: Report
) -> tuple[Tensor, Tensor]:
    """Rows ``[R, D]`` and class shares ``[R, C]`` in the order epoch, image, sampled."""
    settings, about = facts['settings'], facts['settings']['cases'][case]
    features, shares = [], []
    epochs = settings['epochs']
    for epoch in range(epochs):
        patches = tensors[f'{case}.train.features.{epoch}']
        labels = tensors[f'{case}.train.labels.{epoch}']
        theirs = class_shares(labels, settings['patch'], about['C'])
        count = rows_per_image(about['memory'], len(patches) * epochs, patches.shape[1])
        recorded = facts[case].get('rows_per_picture')
        report.number('rows of an image', 0.0, count or 0, recorded or 0, case)
        if count is not None:
            chosen = sample_scarce(theirs, tensors[f'{case}.uniform'][epoch], count)
            report.same('sampled', chosen, tensors[f'{case}.sampled'][epoch], case)
            patches = patches.gather(1, chosen[..., None].expand(-1, -1, patches.shape[2]))
            theirs = theirs.gather(1, chosen[..., None].expand(-1, -1, theirs.shape[2]))
        features.append(patches.flatten(0, 1))
        shares.append(theirs.flatten(0, 1))
    return torch.cat(features), torch.cat(shares)


def compare_scores(
    case: str,
    about: dict[str, Any],
    recorded: dict[str, Any],
    truth: Tensor,
    maps: Tensor,
    report: Report,
) -> None:
    """Confusion, matching and both means."""
    confusion = Confusion(about['C'], (about['ignore'], IGNORE))
    confusion.add(truth, maps)
    counts = confusion.counts
    report.same('confusion', torch.tensor(counts), torch.tensor(recorded['confusion']), case)
    theirs = torch.tensor(recorded['mapping_predicted_to_true'])
    report.same('matching', torch.from_numpy(np.asarray(hungarian(counts))), theirs, case)
    for name, ours in (
        ('mIoU_hungarian', miou_hungarian(counts)),
        ('mIoU_identity_all_classes', miou_identity(counts)),
    ):
        report.number('mIoU', 1e-6, ours / 100, recorded[name], f'{case}, {name}')
