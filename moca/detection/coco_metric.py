"""COCO's figures from a faster program, wherever they are those of pycocotools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.evaluation.metrics import CocoMetric
from mmengine.registry import METRICS

from moca.detection.coco_api import NormalizedCoco
from moca.records.whole_files import write_atomically

try:
    from mmdet.evaluation.metrics import FasterCocoMetric
except ImportError:  # mmdet 3.3 has none: pycocotools then computes everything
    FasterCocoMetric = None

# Of one class in an image: up to here both programs define every figure alike.
_DETECTIONS = 100


@METRICS.register_module()
class QuickCocoMetric(CocoMetric):
    """mmdet's `CocoMetric`, computed by faster-coco-eval; the figures are the same.

    They agree to rounding errors (2e-16) for boxes and masks, crowds and ties included. Only where
    an image has more than 100 detections of a class would they not: pycocotools takes the best
    100 of them for AP, and as many as ``proposal_nums`` allows for AP at .5, .75 and by size, while
    faster-coco-eval takes the latter throughout. pycocotools computes those, and proposals.

    Results that ``outfile_prefix`` asks for name images and categories as ``ann_file`` does, also
    where :mod:`moca.detection.annotation_file` has numbered them otherwise.
    """

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Compute the figures of ``metric`` from what `process` has collected."""
        figures = self._figures(results)
        if self.outfile_prefix is not None:
            self._name_as_written(results)
        return figures

    def _figures(self, results: list[Any]) -> dict[str, float]:
        alike = set(self.metrics) <= {'bbox', 'segm'} and most_of_a_class(results) <= _DETECTIONS
        if alike and FasterCocoMetric is not None:
            return FasterCocoMetric.compute_metrics(self, results)
        return super().compute_metrics(results)

    def _name_as_written(self, results: list[Any]) -> None:
        written = self._coco_api.written if isinstance(self._coco_api, NormalizedCoco) else {}
        images, categories = written.get('images', {}), written.get('categories', {})
        if not images and not categories:
            return
        for kind in ('bbox', 'segm') if 'masks' in results[0][1] else ('bbox',):
            path = Path(f'{self.outfile_prefix}.{kind}.json')
            rows = json.loads(path.read_text())
            for row in rows:
                row['image_id'] = images.get(row['image_id'], row['image_id'])
                row['category_id'] = categories.get(row['category_id'], row['category_id'])
            write_atomically(path, json.dumps(rows).encode())


def most_of_a_class(results: list[Any]) -> int:
    """The most detections of one class in one image; results are pairs of truth and finding."""
    labels = (np.asarray(found['labels'], np.int64) for _, found in results)
    counts = (np.bincount(each).max(initial=0) for each in labels)
    return int(max(counts, default=0))
