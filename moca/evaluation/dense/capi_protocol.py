"""CAPI's k-NN and logistic regression as protocols: data, features, choice, test.

Source: facebookresearch/capi, eval_segmentation.py.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import torch
from mmengine.logging import print_log
from mmengine.registry import TASK_UTILS
from numpy.typing import NDArray

from moca.backbone import PlainViT
from moca.engine.ranges import check_count, check_each, check_positive
from moca.errors import UserError
from moca.evaluation.dense.capi import (
    KnnSetting,
    PatchSet,
    Predict,
    Setting,
    best_setting,
    confusions,
    held_out_images,
    knn_predict,
    logreg_predict,
)
from moca.evaluation.dense.confusion import miou_occurring, miou_present, pixel_accuracy
from moca.evaluation.dense.encoding import encoded, whole_patches
from moca.evaluation.dense.labeled_maps import (
    LabeledMaps,
    check_labels,
    check_settings,
    read_bank_and_queries,
)
from moca.evaluation.dense.patch_labels import pixels_of_patches
from moca.evaluation.dense.patch_logreg import STRENGTHS
from moca.evaluation.dense.pixel_vote import COUNTS
from moca.evaluation.dense.search import Distance
from moca.evaluation.dense.squared import Squares, SquashPillow
from moca.evaluation.dense.standardize import Scaler
from moca.evaluation.protocol import Evaluation, EvaluationRun, Result
from moca.segmentation.label_maps import IGNORE


class CapiEvaluation(Evaluation):
    """What both classifiers share.

    A tenth of the training images is held out, the setting of largest mIoU on it is taken, and
    the classifier is fitted anew on all of them. Features are standardized by the fitted nine
    tenths throughout.

    Metrics in percent, of pixels of the squashed images: ``mIoU`` over the labels in truth or
    prediction, as in the source; ``mIoU_present`` over those in the truth; ``aAcc``.

    Args:
        train: Config of a mmseg data set, or of several in a `ConcatDataset`.
        val: Of the images to be scored, of the same classes.
        size: Images are squares of this side in pixels, rounded down to whole patches.
        ignored: Labels that are not fitted and do not count as truth; 255 always is one.

    Raises:
        UserError: A setting is out of its range.
    """

    predict: Predict

    def __init__(
        self,
        train: dict[str, Any],
        val: dict[str, Any],
        *,
        size: int = 224,
        ignored: Sequence[int] = (),
    ) -> None:
        check_settings(size=size)
        check_labels(ignored, 'evaluation.ignored')
        self.train_data, self.val_data, self.size = train, val, size
        self.ignored = tuple(sorted({*ignored, IGNORE}))

    @abstractmethod
    def candidates(self) -> Sequence[Setting]:
        """The settings that one is chosen of; of equals the first."""

    def prepare(self) -> None:
        """List and check both data sets.

        Raises:
            UserError: A file is missing or wrong, an image is in both, or there are too few images
                to hold any out.
        """
        self.train, self.val = read_bank_and_queries(self.train_data, self.val_data)
        self.train_images, self.val_images = len(self.train), len(self.val)
        self.fitted, self.held_out = held_out_images(len(self.train))

    def run(self, model: PlainViT, run: EvaluationRun) -> Result:
        """Encode, choose, fit anew, and measure."""
        size = whole_patches(self.size, model.patch_size, 'evaluation.size')
        if run.cache is not None:
            print_log(
                'loading.cache: CAPI keeps no features (all patches of all images).', 'current'
            )
        order = np.concatenate([self.fitted, self.held_out])
        whole = _patches(model, self.train, run, size, 'training images', order)
        fitted = len(self.fitted) * (size // model.patch_size) ** 2
        scaler = Scaler.of(whole.features[:fitted])
        whole = whole.scaled(scaler)
        train = PatchSet(whole.features[:fitted], whole.pixels[:fitted])
        val = PatchSet(whole.features[fitted:], whole.pixels[fitted:])
        predict, settings = type(self).predict, self.candidates()
        chosen, scores = best_setting(confusions(predict, train, val, settings, self.ignored))
        print_log(
            f'Chosen on {len(self.held_out)} held-out training images: {_said(chosen)}, '
            f'mIoU {scores[chosen]:.2f} %.',
            'current',
        )
        test = _patches(model, self.val, run, size, 'validation images').scaled(scaler)
        counts = confusions(predict, whole, test, [chosen], self.ignored)[chosen].counts
        return Result(
            metrics={
                'mIoU': miou_occurring(counts),
                'mIoU_present': miou_present(counts),
                'aAcc': pixel_accuracy(counts),
            },
            chosen={
                'setting': _said(chosen),
                'on': f'{len(self.held_out)} held-out training images',
                'val_mIoU': {_said(setting): score for setting, score in scores.items()},
            },
            settings={
                'size': size,
                'ignored': list(self.ignored),
                'patches': len(whole.pixels),
                'patches_fitted': len(whole.kept(self.ignored).pixels),
                'classes': self.train.num_classes,
            },
        )


@TASK_UTILS.register_module()
class CapiKNN(CapiEvaluation):
    """Segment by neighbors that vote for each pixel of a patch; see `CapiEvaluation`.

    Args:
        k: Numbers of neighbors to choose of.
        distances: ``cosine``, ``L2`` or both, likewise.
        kwargs: Arguments of `CapiEvaluation`.

    Raises:
        UserError: A setting is out of its range.
    """

    predict = staticmethod(knn_predict)

    def __init__(
        self,
        *args: Any,
        k: Sequence[int] = COUNTS,
        distances: Sequence[Distance] = ('cosine', 'L2'),
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.k = check_each(k, 'evaluation.k', check_count)
        known = get_args(Distance)
        if not isinstance(distances, list | tuple) or not distances:
            raise UserError(f'evaluation.distances={distances!r}: give a list of {known}.')
        if unknown := [d for d in distances if d not in known]:
            raise UserError(f'evaluation.distances={unknown}: give some of {", ".join(known)}.')
        self.distances = tuple(distances)

    def candidates(self) -> Sequence[Setting]:
        """Every number of neighbors with every distance."""
        return [KnnSetting(k, distance) for k in self.k for distance in self.distances]


@TASK_UTILS.register_module()
class CapiLogreg(CapiEvaluation):
    """Segment by a logistic regression on patches; see `CapiEvaluation`.

    A patch is labeled by its most frequent label, and predicted as a whole.

    Args:
        strengths: Values of C to choose of.
        kwargs: Arguments of `CapiEvaluation`.

    Raises:
        UserError: A setting is out of its range.
    """

    predict = staticmethod(logreg_predict)

    def __init__(self, *args: Any, strengths: Sequence[float] = STRENGTHS, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.strengths = check_each(strengths, 'evaluation.strengths', check_positive)

    def candidates(self) -> Sequence[Setting]:
        """Every C."""
        return self.strengths


def _patches(
    model: PlainViT,
    maps: LabeledMaps,
    run: EvaluationRun,
    size: int,
    about: str,
    order: NDArray[np.int64] | None = None,
) -> PatchSet:
    """Patches of all images in an order, with their pixels on the CPU."""
    squares = Squares(maps, SquashPillow(size, model.mean, model.std))
    features, pixels = [], []
    chosen = None if order is None else [int(number) for number in order]
    for found, labels in encoded(model, squares, run, about, chosen):
        features.append(found.flatten(0, 1))
        pixels.append(pixels_of_patches(labels, model.patch_size).flatten(0, 1))
    return PatchSet(torch.cat(features), torch.cat(pixels))


def _said(setting: Setting) -> str:
    return f'C {setting:.4g}' if isinstance(setting, float) else str(setting)
