"""Classification from a few labeled images a class, by logistic regression on frozen features.

Sources: valeoai/MOCA, eval_lowshot_logistic.py and README_LOWSHOT (mean of patches before the final
norm, C 10); facebookresearch/msn, logistic_eval.py (class token before the norm, C 400).
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce, get_dist_info
from mmengine.logging import print_log
from mmengine.registry import TASK_UTILS
from numpy.typing import NDArray
from torch import Tensor

from moca.backbone import PlainViT
from moca.engine.ranges import check_count, check_each, check_positive, check_switch
from moca.errors import UserError
from moca.evaluation.extraction import Cut, ImageFeatures
from moca.evaluation.features import check_kind
from moca.evaluation.image_sets import draw_per_class
from moca.evaluation.knn import read_sets
from moca.evaluation.list_files import REPOSITORIES, read_lists
from moca.evaluation.logistic import TOLERANCE, fit, prepared_rows
from moca.evaluation.protocol import Evaluation, EvaluationRun, Result

C = 10.0
"""MOCA's: 1 / lambda of README_LOWSHOT. Five-shot accuracy doubles or halves with it."""

ALL = 'all'
"""Stands for the whole bank."""


@dataclass(frozen=True)
class Subset:
    """Some images of the bank: what they are called, which split, and their places."""

    name: str
    split: int
    places: NDArray[np.int64]


@TASK_UTILS.register_module()
class LowShot(Evaluation):
    """Fit logistic regressions on a few images a class, and classify the queries.

    Each row loses the mean of its own channels and is then made of length 1, as the sources do
    (not the mean of a channel over images). No intercept.

    Metrics in percent: of one number of images a class ``top1``, the mean over splits, and
    ``top1_std``, its population deviation, as published; of several ``top1_1shot``,
    ``top1_1shot_std`` and so on.

    Args:
        bank: ``data_root`` and ``split``.
        queries: Likewise, of the same classes.
        shots: Numbers of images a class, or names: ``all`` for the whole bank, or those of lists,
            such as ``1pct`` for SimCLR's.
        splits: How many draws of each, with seeds 0, 1, ...; of ``all`` there is one.
        subsets: Folder of published lists of file names, which are taken instead of draws; see
            :func:`moca.evaluation.list_files.read_lists`.
        feature: A kind of :func:`moca.evaluation.features.image_feature`.
        C: Of scikit-learn: the sum of cross-entropies plus ``|W|^2 / 2C`` is minimized.
        center: Take off each row's mean over its channels.
        length: Make each row of length 1.
        intercept: Fit one.
        interpolation: Of `Cut`; bilinear in both sources.
        share: Likewise.

    Raises:
        UserError: A setting is out of its range.
    """

    parallel = True
    half = True

    def __init__(
        self,
        bank: dict[str, Any],
        queries: dict[str, Any],
        *,
        shots: Sequence[int | str] = (1, 2, 5),
        splits: int = 3,
        subsets: str | None = None,
        feature: str = 'avg_prenorm',
        C: float = C,
        center: bool = True,
        length: bool = True,
        intercept: bool = False,
        interpolation: str = 'bilinear',
        share: float | None = None,
    ) -> None:
        check_kind(feature, 'evaluation.feature')
        check_positive(C, 'evaluation.C')
        check_count(splits, 'evaluation.splits')
        for name, value in (('center', center), ('length', length), ('intercept', intercept)):
            check_switch(value, f'evaluation.{name}')
        listed = subsets is not None
        self.names = check_each(shots, 'evaluation.shots', lambda shot, _: _name(shot, listed))
        if len(set(self.names)) < len(self.names):
            raise UserError(f'evaluation.shots={list(shots)}: give different ones.')
        self.bank_data, self.query_data, self.subset_folder = bank, queries, subsets
        self.shots, self.splits, self.feature, self.C = tuple(shots), splits, feature, float(C)
        self.center, self.length, self.intercept = center, length, intercept
        self.cut = Cut(interpolation, share)
        self.lists: list[str] = []

    def prepare(self) -> None:
        """Read the lists of images and choose the splits.

        Raises:
            UserError: As `read_sets` and `read_lists`; or a class has too few images.
        """
        self.bank, self.queries = read_sets(self.bank_data, self.query_data)
        if len(self.bank.classes) < 2:
            raise UserError('evaluation.bank: one class, of which there is nothing to tell.')
        self.subsets = list(self._drawn() if self.subset_folder is None else self._listed())
        self.train_images = max(len(subset.places) for subset in self.subsets)
        self.val_images = len(self.queries)

    def _drawn(self) -> list[Subset]:
        found = []
        for shot, name in zip(self.shots, self.names, strict=True):
            count = None if shot == ALL else int(shot)
            for seed in range(1 if count is None else self.splits):
                places = draw_per_class(self.bank, count, seed, 'evaluation.shots')
                found.append(Subset(name, seed, places))
        return found

    def _listed(self) -> list[Subset]:
        assert self.subset_folder is not None
        lists = read_lists(self.subset_folder, self.bank, 'evaluation.subsets')
        found = []
        for name in self.names:
            several = [Subset(name, each.split, each.places) for each in lists if each.name == name]
            self.lists += [f'{each.source}: {each.sha256}' for each in lists if each.name == name]
            if name == ALL:
                several = [Subset(name, 0, np.arange(len(self.bank)))]
            if not several:
                there = ', '.join(dict.fromkeys(each.name for each in lists))
                raise UserError(
                    f'evaluation.subsets {self.subset_folder}: no list of {name}; it has {there}. '
                    'Add that, or leave it out of evaluation.shots.'
                )
            found += several
        left = sorted({each.name for each in lists} - set(self.names))
        if left:
            print_log(f'Not asked for, and left out: lists of {", ".join(left)}.', 'current')
        return found

    def run(self, model: PlainViT, run: EvaluationRun) -> Result:
        """Encode what is needed, fit one regression for each split, and score it."""
        used = np.unique(np.concatenate([subset.places for subset in self.subsets]))
        about = ('query images', 'labeled images')
        queries, bank = (
            self._rows(ImageFeatures(model, images, self.cut, self.feature, run, text))
            for images, text in zip((self.queries, self.bank.part(used)), about, strict=True)
        )
        rank, processes = get_dist_info()
        numbers = torch.zeros(len(self.subsets), 2, dtype=torch.float64)
        for place in range(rank, len(self.subsets), processes):
            subset = self.subsets[place]
            rows = bank[np.searchsorted(used, subset.places)]
            title = f'{subset.name}, split {subset.split}'
            fitted = fit(rows, self.bank.labels[subset.places], self.C, self.intercept, title)
            right = fitted.answers(queries) == self.queries.labels
            numbers[place] = torch.tensor([100 * right.mean(), fitted.iterations])
            print_log(
                f'{title}: top-1 {numbers[place, 0]:.2f} %, {len(rows):,} images, '
                f'{fitted.iterations} iterations',
                'current',
            )
        if processes > 1:
            shared = numbers.to(run.device)
            all_reduce(shared)
            numbers = shared.cpu()
        return self._result(numbers)

    def _rows(self, features: ImageFeatures) -> NDArray[np.float64]:
        return prepared_rows(features.whole(), self.center, self.length).numpy()

    def _result(self, numbers: Tensor) -> Result:
        scores: dict[str, list[float]] = defaultdict(list)
        iterations: dict[str, list[int]] = defaultdict(list)
        for subset, (top1, steps) in zip(self.subsets, numbers.tolist(), strict=True):
            scores[subset.name].append(round(top1, 3))
            iterations[subset.name].append(int(steps))
        metrics = {}
        for name, several in scores.items():
            key = 'top1' if len(scores) == 1 else f'top1_{name}'
            metrics[key] = statistics.fmean(several)
            if len(several) > 1:
                metrics[f'{key}_std'] = statistics.pstdev(several)
        settings = {
            'feature': self.feature,
            'C': self.C,
            'rows': ', then '.join(
                [
                    *(['less their mean over channels'] if self.center else []),
                    *(['of length 1'] if self.length else []),
                ]
            ),
            'intercept': self.intercept,
            'solver': f'scikit-learn, lbfgs, fp64, tol {TOLERANCE:g}',
            'subsets': 'drawn' if self.subset_folder is None else self.lists,
            'top1_of_splits': dict(scores),
            'deviation': 'population, over splits',
            'iterations': dict(iterations),
            'interpolation': self.cut.interpolation,
            'share': self.cut.share,
            'classes': len(self.bank.classes),
        }
        return Result(metrics=metrics, settings=settings)


def _name(shot: int | str, listed: bool) -> str:
    if shot == ALL or (listed and isinstance(shot, str)):
        return str(shot)
    if isinstance(shot, str):
        raise UserError(
            f'evaluation.shots: {shot} is a list of file names. Give evaluation.subsets=DIR with '
            f'that of {REPOSITORIES}, or leave it out.'
        )
    if isinstance(shot, bool) or not isinstance(shot, int) or shot < 1:
        raise UserError(f'evaluation.shots: {shot!r}: give numbers above 0, or {ALL!r}.')
    return f'{shot}shot'
