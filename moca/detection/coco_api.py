"""The index of a normalized annotation file that mmdet's data sets and metrics use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO
from mmdet.evaluation.metrics import coco_metric

from moca.detection.annotation_file import read_annotation_file


class NormalizedCoco(COCO):
    """mmdet's `COCO` of what `read_annotation_file` makes of a file.

    Args:
        annotation_file: To be read; None for an empty index, as of pycocotools.

    Attributes:
        written: By table, ids as the file writes them, where they became another number; what a
            submission has to name.

    Raises:
        UserError: The file is malformed.
    """

    def __init__(self, annotation_file: str | Path | None = None) -> None:
        super().__init__()
        self.written: dict[str, dict[int, Any]] = {}
        if annotation_file is None:
            return
        file = read_annotation_file(annotation_file)
        self.written = file.written
        self.dataset = dict(
            info={},
            licenses=[],
            images=file.images,
            categories=file.categories,
            annotations=file.annotations,
        )
        self.createIndex()
        self.img_ann_map, self.cat_img_map = self.imgToAnns, self.catToImgs


def install() -> None:
    """Have mmdet's `CocoDataset`, `CocoMetric` and what derives from them read by `NormalizedCoco`.

    The data set has an attribute for it; the metric's module has the name of a class. Data sets
    that name an index of their own (Objects365, panoptic COCO) keep it.
    """
    CocoDataset.COCOAPI = NormalizedCoco
    coco_metric.COCO = NormalizedCoco
