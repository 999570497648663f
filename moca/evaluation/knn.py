"""k-NN accuracy of a frozen backbone: a bank of labeled images votes on others.

Sources: valeoai/MOCA, eval_knn.py and knn_utils.py (mean of patches, k 10 and 20, the best of ten
temperatures on the queries); facebookresearch/dino, eval_knn.py, and bytedance/ibot, eval_knn.py
(class token, k up to 200, temperature .07); facebookresearch/dinov2, eval/knn.py (few images a
class).
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.dist import all_gather, get_dist_info
from mmengine.logging import print_log
from mmengine.registry import TASK_UTILS
from torch import Tensor

from moca.backbone import PlainViT
from moca.engine.ranges import check_count, check_each, check_number
from moca.errors import UserError
from moca.evaluation.classification.class_lists import check_same_classes
from moca.evaluation.extraction import Cut, ImageFeatures
from moca.evaluation.features import check_kind
from moca.evaluation.image_sets import check_apart, draw_per_class, read_image_set
from moca.evaluation.labeled import Labeled
from moca.evaluation.neighbors import LOWEST_TEMPERATURE, Neighbors, right_answers
from moca.evaluation.protocol import Evaluation, EvaluationRun, Result

TEMPERATURE = 0.07
"""DINO's and iBOT's, and of MOCA's monitor during training."""


@dataclass(frozen=True)
class Accuracy:
    """Top-1 and top-5 in percent, of one number of neighbors and one temperature."""

    k: int
    temperature: float
    top1: float
    top5: float

    def __str__(self) -> str:
        return f'k {self.k}, T {self.temperature:g}'


def read_sets(
    bank: dict[str, Any], queries: dict[str, Any], names: tuple[str, str] = ('bank', 'queries')
) -> tuple[Labeled, Labeled]:
    """Two sets of images of the same classes, which have no image in common.

    Args:
        bank: ``data_root`` and ``split``, of :func:`moca.evaluation.image_sets.read_image_set`.
        queries: Likewise.
        names: Of the fields of ``evaluation``, for messages.

    Raises:
        UserError: One is no set of images, the classes differ, or images are in both.
    """
    fields = f'evaluation.{names[0]}', f'evaluation.{names[1]}'
    sets = []
    for field, given in zip(fields, (bank, queries), strict=True):
        if not isinstance(given, Mapping):
            raise UserError(f'{field}={given!r}: give {field}.data_root=DIR instead.')
        if unknown := given.keys() - {'data_root', 'split'} or {'data_root'} - given.keys():
            raise UserError(f'{field}: {min(unknown)}: it has data_root and split, and no other.')
        sets.append(read_image_set(given['data_root'], given.get('split', ''), field))
    check_same_classes(sets[0].classes, sets[1].classes, fields[0], fields[1])
    check_apart(sets[0], sets[1], fields)
    return sets[0], sets[1]


@TASK_UTILS.register_module()
class KNN(Evaluation):
    """Classify images by their nearest neighbors in a bank.

    Metrics in percent: ``top1`` and ``top5`` of the pair of k and temperature with the best top-1
    on the queries, which is chosen on what is scored where there are several; of each k
    ``top1_k10`` and ``top5_k10`` at a temperature of .07, where that is in the list. Where
    ``per_class`` is given, the same are means over draws, with ``top1_std`` (population).

    Args:
        bank: ``data_root`` and ``split``.
        queries: Likewise, of the same classes.
        feature: A kind of :func:`moca.evaluation.features.image_feature`; of length 1 here.
        k: Numbers of neighbors.
        temperatures: Of the votes.
        per_class: Of the bank, so many images of each class alone; None for all.
        tries: How often they are drawn, with seeds 0, 1, ...
        interpolation: Of `Cut`.
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
        feature: str = 'avg',
        k: Sequence[int] = (10, 20),
        temperatures: Sequence[float] = (TEMPERATURE,),
        per_class: int | None = None,
        tries: int = 5,
        interpolation: str = 'bicubic',
        share: float | None = None,
    ) -> None:
        check_kind(feature, 'evaluation.feature')
        k = check_each(k, 'evaluation.k', check_count)
        temperatures = check_each(temperatures, 'evaluation.temperatures', check_number)
        if min(temperatures) < LOWEST_TEMPERATURE:
            raise UserError(
                f'evaluation.temperatures={list(temperatures)}: give numbers from '
                f'{LOWEST_TEMPERATURE:g} up.'
            )
        if per_class is not None:
            check_count(per_class, 'evaluation.per_class')
        check_count(tries, 'evaluation.tries')
        if per_class is not None and max(k) > per_class:
            print_log(
                f'evaluation.k: numbers above per_class={per_class} are cut to it, as in DINOv2.',
                'current',
            )
            k = tuple(min(count, per_class) for count in k)
        self.bank_data, self.query_data = bank, queries
        self.feature, self.cut = feature, Cut(interpolation, share)
        self.k = tuple(sorted(set(k)))
        self.temperatures = tuple(sorted(set(map(float, temperatures))))
        self.per_class, self.tries = per_class, tries

    def prepare(self) -> None:
        """Read the lists of images.

        Raises:
            UserError: As `read_sets`; or the bank has fewer images than neighbors are asked for.
        """
        self.bank, self.queries = read_sets(self.bank_data, self.query_data)
        self.train_images, self.val_images = len(self.bank), len(self.queries)
        if self.per_class is not None:
            chosen = draw_per_class(self.bank, self.per_class, 0, 'evaluation.per_class')
            self.train_images = len(chosen)
        if max(self.k) > self.train_images:
            raise UserError(
                f'evaluation.k={max(self.k)}: the bank has {self.train_images} images. Give a '
                'smaller k or more images.'
            )

    def run(self, model: PlainViT, run: EvaluationRun) -> Result:
        """Encode both sets, find neighbors, and let them vote."""
        queries = ImageFeatures(model, self.queries, self.cut, self.feature, run, 'query images')
        normed = F.normalize(queries.whole().to(run.device), dim=1)
        bank = ImageFeatures(model, self.bank, self.cut, self.feature, run, 'bank images')
        if self.per_class is None:
            tables = [self._accuracies(nearest(bank, normed, max(self.k)))]
        else:
            tables = self._of_draws(bank.whole(), normed)
        table = [_mean([tries[place] for tries in tables]) for place in range(len(tables[0]))]
        return self._result(table, tables)

    def _of_draws(self, bank: Tensor, queries: Tensor) -> list[list[Accuracy]]:
        tables = []
        for seed in range(self.tries):
            places = draw_per_class(self.bank, self.per_class, seed, 'evaluation.per_class')
            found = Neighbors(queries, max(self.k))
            part = bank[torch.from_numpy(places)].to(queries.device)
            labels = torch.from_numpy(self.bank.labels[places]).to(queries.device)
            found.add(F.normalize(part, dim=1), labels)
            tables.append(self._accuracies(found))
        return tables

    def _accuracies(self, found: Neighbors) -> list[Accuracy]:
        """Of every k and temperature."""
        truth = torch.from_numpy(self.queries.labels).to(found.labels.device)
        classes, share = len(self.bank.classes), 100 / len(truth)
        table = []
        for k in self.k:
            cosine, labels = found.cosine[:, :k], found.labels[:, :k]
            for temperature in self.temperatures:
                first, five = right_answers(cosine, labels, temperature, truth, classes)
                table.append(Accuracy(k, temperature, share * first, share * five))
        return table

    def _result(self, table: list[Accuracy], tables: list[list[Accuracy]]) -> Result:
        place = max(range(len(table)), key=lambda number: table[number].top1)
        best = table[place]
        metrics = {'top1': best.top1, 'top5': best.top5}
        if len(tables) > 1:
            tops = [tries[place].top1 for tries in tables]
            metrics['top1_std'] = statistics.pstdev(tops)
        for each in table:
            if each.temperature == TEMPERATURE:
                metrics |= {f'top1_k{each.k}': each.top1, f'top5_k{each.k}': each.top5}
            print_log(f'{each}: top-1 {each.top1:.2f} %, top-5 {each.top5:.2f} %', 'current')
        chosen: dict[str, Any] = {}
        if len(table) > 1:
            chosen = {
                'k': best.k,
                'temperature': best.temperature,
                'on': 'the query images that are scored',
                'top1': {str(each): round(each.top1, 3) for each in table},
                'top5': {str(each): round(each.top5, 3) for each in table},
            }
        settings = {
            'feature': self.feature,
            'length': 'of length 1, bank and queries',
            'k': list(self.k),
            'temperatures': list(self.temperatures),
            'per_class': self.per_class,
            'tries': None if self.per_class is None else self.tries,
            'interpolation': self.cut.interpolation,
            'share': self.cut.share,
            'classes': len(self.bank.classes),
        }
        return Result(metrics=metrics, chosen=chosen, settings=settings)


def nearest(bank: ImageFeatures, queries: Tensor, k: int) -> Neighbors:
    """The nearest images of a bank, which no process has as a whole.

    Args:
        bank: Its features, made of length 1 here.
        queries: ``[Q, F]`` of length 1, the same in every process.
        k: How many neighbors.
    """
    found = Neighbors(queries, k)
    labels = torch.from_numpy(bank.images.labels)
    places = torch.arange(len(labels))
    for part, features in bank.own():
        near = F.normalize(features.to(queries.device), dim=1)
        found.add(near, labels[part].to(queries.device), places[part].to(queries.device))
    if get_dist_info()[1] == 1:
        return found
    whole = Neighbors(queries, k)
    gathered = (all_gather(each) for each in (found.cosine, found.labels, found.rows))
    for parts in zip(*gathered, strict=True):
        whole.merge(*parts)
    return whole


def _mean(several: Sequence[Accuracy]) -> Accuracy:
    tops = [statistics.fmean(getattr(each, name) for each in several) for name in ('top1', 'top5')]
    return Accuracy(several[0].k, several[0].temperature, tops[0], tops[1])
