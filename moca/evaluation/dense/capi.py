"""CAPI's evaluation: choose a setting on held-out training images, refit, test.

Source: facebookresearch/capi, eval_segmentation.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from mmengine.logging import print_log
from numpy.typing import NDArray
from torch import Tensor

from moca.errors import UserError
from moca.evaluation.dense.confusion import Confusion, miou_occurring
from moca.evaluation.dense.patch_labels import LABELS, is_any, most_frequent
from moca.evaluation.dense.patch_logreg import fit_logreg
from moca.evaluation.dense.pixel_vote import predict_pixels
from moca.evaluation.dense.search import BankSearch, Distance
from moca.evaluation.dense.standardize import Scaler

HELD_OUT = 10
"""One in so many training images is held out to choose a setting on."""


@dataclass(frozen=True)
class PatchSet:
    """Patches of some images.

    Attributes:
        features: ``[N, D]``.
        pixels: ``[N, P]`` uint8, the labels of their pixels in order.
    """

    features: Tensor
    pixels: Tensor

    def kept(self, ignored: Sequence[int]) -> PatchSet:
        """The patches whose most frequent label counts; their ignored pixels stay."""
        counts = ~is_any(most_frequent(self.pixels), ignored)
        return PatchSet(self.features[counts.to(self.features.device)], self.pixels[counts])

    def scaled(self, scaler: Scaler) -> PatchSet:
        """The same with standardized features."""
        return PatchSet(scaler.apply(self.features), self.pixels)

    def images(self, numbers: NDArray[np.int64], patches: int) -> PatchSet:
        """The patches of some images in their order, where each image has so many patches."""
        chosen = torch.from_numpy(numbers)
        features = self.features.unflatten(0, (-1, patches))[chosen.to(self.features.device)]
        return PatchSet(
            features.flatten(0, 1), self.pixels.unflatten(0, (-1, patches))[chosen].flatten(0, 1)
        )


def joined(first: PatchSet, second: PatchSet) -> PatchSet:
    """The patches of both."""
    return PatchSet(
        torch.cat([first.features, second.features]), torch.cat([first.pixels, second.pixels])
    )


def held_out_images(total: int, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which training images are fitted, and which settings are chosen on.

    Args:
        total: Number of training images.
        seed: Of numpy's permutation; the source's 0.

    Raises:
        UserError: There are too few to hold any out.
    """
    order = np.random.RandomState(seed).permutation(total)
    count = total // HELD_OUT
    if count == 0:
        raise UserError(
            f'{total} training images: CAPI holds a tenth of them out to choose its setting on. '
            f'Give {HELD_OUT} or more.'
        )
    return order[count:], order[:count]


@dataclass(frozen=True)
class KnnSetting:
    """Of the k-NN classifier."""

    k: int
    distance: Distance

    def __str__(self) -> str:
        """For tables: ``k 10, cosine``."""
        return f'k {self.k}, {self.distance}'


Setting = KnnSetting | float
"""What is chosen: number of neighbors and distance, or C of a logistic regression."""

Predict = Callable[[PatchSet, Tensor, Sequence[Setting]], Iterator[tuple[Setting, slice, Tensor]]]
"""From kept training patches, queries ``[Q, D]`` and settings, the labels ``[q, P]`` (or ``[q, 1]``
for all pixels of a patch) of a slice of the queries under a setting."""


def knn_predict(
    train: PatchSet, queries: Tensor, settings: Sequence[Setting]
) -> Iterator[tuple[Setting, slice, Tensor]]:
    """Predict by k-NN; one search for each distance serves all k. See `Predict`."""
    chosen = [s for s in settings if isinstance(s, KnnSetting)]
    for distance in dict.fromkeys(s.distance for s in chosen):
        counts = [s.k for s in chosen if s.distance == distance]
        bank = BankSearch(train.features, distance)
        for part, found in predict_pixels(queries, bank, train.pixels, counts):
            for k, labels in found.items():
                yield KnnSetting(k, distance), part, labels


def logreg_predict(
    train: PatchSet, queries: Tensor, settings: Sequence[Setting]
) -> Iterator[tuple[Setting, slice, Tensor]]:
    """Predict by logistic regression on most frequent labels. See `Predict`."""
    labels = most_frequent(train.pixels).to(train.features.device)
    for setting in settings:
        assert isinstance(setting, float)
        start = time.monotonic()
        model = fit_logreg(train.features, labels, setting)
        took = time.monotonic() - start
        print_log(f'C {setting:.3g}: {model.iterations} steps of L-BFGS, {took:.0f} s', 'current')
        yield setting, slice(0, len(queries)), model.predict(queries)[:, None]


def confusions(
    predict: Predict,
    train: PatchSet,
    test: PatchSet,
    settings: Sequence[Setting],
    ignored: Sequence[int],
) -> dict[Setting, Confusion]:
    """Confusion of pixels under each setting.

    Args:
        predict: `knn_predict` or `logreg_predict`.
        train: Standardized; patches whose most frequent label is ignored are left out here.
        test: Standardized, all of its patches.
        settings: To be tried.
        ignored: Labels that are not fitted, and not counted as truth; predictions of them are
            wrong predictions.

    Raises:
        UserError: All training patches are ignored, or fewer than k are left.
    """
    kept = train.kept(ignored)
    if not len(kept.pixels):
        raise UserError('CAPI: every training patch is ignored. Check the label maps.')
    found = {setting: Confusion(LABELS, ignored) for setting in settings}
    for setting, part, labels in predict(kept, test.features, settings):
        truth = test.pixels[part]
        found[setting].add(truth, labels.to(truth.device).expand_as(truth))
    return found


def best_setting(found: dict[Setting, Confusion]) -> tuple[Setting, dict[Setting, float]]:
    """The setting of largest mIoU (the first of equals), and the mIoU of all in percent."""
    scores = {setting: miou_occurring(confusion.counts) for setting, confusion in found.items()}
    return max(scores, key=lambda setting: scores[setting]), scores
