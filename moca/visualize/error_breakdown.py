"""What a detector's missing AP is made of, by class and by size of the objects.

The analysis of the COCO toolkit (cocodataset.org/#detection-eval, section 4, "Analysis Code"),
after Hoiem et al., "Diagnosing Error in Object Detectors", ECCV 2012: AP is measured again and
again, each time with one more kind of error forgiven. All matching is done by pycocotools'
COCOeval.
"""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

AREAS = ('all', 'small', 'medium', 'large')
"""COCO's: below 32 x 32 pixels, up to 96 x 96, and above."""

STEPS = {
    'C75': 'IoU .75',
    'C50': 'IoU .5',
    'Loc': 'location (IoU .1)',
    'Sim': 'similar class',
    'Oth': 'other class',
    'BG': 'background',
    'FN': 'not found',
}
"""The toolkit's names; what each step forgives beyond the one before. The last is trivially 1."""

_IOUS = (0.1, *np.linspace(0.5, 0.95, 10))
_LOOSE, _C50, _C75 = 0, 1, 6
_DETECTIONS = 100  # of a class in an image, as COCO counts them


@dataclass(frozen=True)
class Breakdown:
    """AP and its steps, in percent; NaN where no object is of the class and size.

    Attributes:
        classes: Names of the classes.
        ap: COCO's AP, the mean over IoU .5 to .95, ``[classes, areas]``.
        steps: ``[classes, areas, steps]``; see `STEPS`.
    """

    classes: tuple[str, ...]
    ap: NDArray[np.float64]
    steps: NDArray[np.float64]

    def mean(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean over the classes that have a value."""
        known = ~np.isnan(values)
        total, count = np.where(known, values, 0).sum(0), known.sum(0)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)


class _Forgiving(COCOeval):
    """COCOeval of one class that neither counts nor punishes detections of some others' objects.

    Args:
        forgiven: The other classes. Their objects are given the class in question and are ignored,
            but only once each, unlike crowds, and after its own objects.
    """

    def __init__(self, truth: COCO, found: COCO, kind: str, forgiven: Collection[int]) -> None:
        super().__init__(truth, found, kind)
        self.forgiven = forgiven

    def _prepare(self) -> None:
        super()._prepare()
        if not self.forgiven:
            return
        (category,) = self.params.catIds
        for image in self.params.imgIds:
            for annotation in self.cocoGt.imgToAnns[image]:
                if annotation['category_id'] in self.forgiven:
                    other = {**annotation, 'category_id': category, 'ignore': 1}
                    self._gts[image, category].append(other)


def break_down(
    truth: COCO, detections: Sequence[dict[str, Any]], kind: str, classes: Collection[int]
) -> Breakdown:
    """Analyze detections.

    Args:
        truth: The annotations; masks of the classes become run lengths, as COCOeval leaves them.
            Classes without a ``supercategory`` have no similar ones.
        detections: In COCO's format of results.
        kind: ``bbox`` or ``segm``.
        classes: Ids of the categories that the detector knows; what is of others does not count.
    """
    found = _results(truth, detections)
    if kind == 'segm':  # once for all: an object is looked at again for each other class
        for annotation in truth.dataset['annotations']:
            if annotation['category_id'] in classes:  # masks of others may be missing or broken
                annotation['segmentation'] = truth.annToRLE(annotation)
    categories = [truth.cats[category] for category in sorted(classes)]
    rows = [_class_breakdown(truth, found, kind, category, categories) for category in categories]
    ap, steps = (np.stack(part) for part in zip(*rows, strict=True))
    return Breakdown(tuple(str(category['name']) for category in categories), ap, steps)


def _class_breakdown(
    truth: COCO,
    found: COCO,
    kind: str,
    category: dict[str, Any],
    categories: Sequence[dict[str, Any]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """AP ``[areas]`` and the steps ``[areas, steps]`` of one class."""
    number, above = category['id'], category.get('supercategory')
    others = {other['id'] for other in categories} - {number}
    similar = {c['id'] for c in categories if above and c.get('supercategory') == above} & others
    strict = _precision(truth, found, kind, number, _IOUS, ())
    loose = strict[_LOOSE]
    alike = _precision(truth, found, kind, number, _IOUS[:1], similar)[0] if similar else loose
    oth = _precision(truth, found, kind, number, _IOUS[:1], others)[0] if others else alike
    # without background there is nothing but hits up to the highest recall
    reached = np.where(np.isnan(oth), np.nan, oth > 0)
    known = np.where(np.isnan(oth), np.nan, 1.0)
    curves = (strict[_C75], strict[_C50], loose, alike, oth, reached, known)
    steps = np.stack([curve.mean(0) for curve in curves], axis=-1)
    return 100 * strict[_C50:].mean((0, 1)), 100 * steps


def _precision(
    truth: COCO,
    found: COCO,
    kind: str,
    category: int,
    ious: Sequence[float],
    forgiven: Collection[int],
) -> NDArray[np.float64]:
    """Precision of a class at 101 recalls, ``[ious, recalls, areas]``; NaN without objects."""
    images = {a['image_id'] for c in (truth, found) for a in _of(c, category)}
    evaluation = _Forgiving(truth, found, kind, forgiven)
    if not _of(truth, category):
        return np.full((len(ious), len(evaluation.params.recThrs), len(AREAS)), np.nan)
    evaluation.params.catIds = [category]
    evaluation.params.imgIds = sorted(images)
    evaluation.params.iouThrs = np.asarray(ious)
    evaluation.params.maxDets = [_DETECTIONS]
    with contextlib.redirect_stdout(io.StringIO()):  # it reports each of its steps
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval['precision'][:, :, 0, :, 0]
    return np.where(precision < 0, np.nan, precision)


def _of(coco: COCO, category: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = coco.loadAnns(coco.getAnnIds(catIds=[category]))
    return found


def _results(truth: COCO, detections: Sequence[dict[str, Any]]) -> COCO:
    """What `COCO.loadRes` returns, also for no detections at all."""
    if detections:
        with contextlib.redirect_stdout(io.StringIO()):
            # copies: loadRes writes into them, and a mask's area must be its own, not its box's
            return truth.loadRes(copy.deepcopy(list(detections)))
    empty = COCO()
    empty.dataset = dict(truth.dataset, annotations=[])
    with contextlib.redirect_stdout(io.StringIO()):
        empty.createIndex()
    return empty
