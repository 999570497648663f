"""Segmentation metrics that mmseg lacks, and predictions in files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.logging import print_log
from mmengine.registry import METRICS
from mmseg.evaluation.metrics import IoUMetric

from moca.errors import UserError
from moca.records.whole_files import write_atomically

_OF_BATCH_NORM = (
    ' If the training accuracy is high, the running statistics of batch norm lag behind: '
    'default_hooks.batch_norm.type=RecomputeBatchNorm measures them anew.'
)


@METRICS.register_module()
class PresentIoUMetric(IoUMetric):
    """mmseg's `IoUMetric` with ``mIoU_present``: the mean over classes that the labels contain.

    mmseg's mIoU counts a class that no label contains as 0 as soon as one pixel is predicted as
    it, and leaves it out otherwise. On a small validation set that is a matter of luck; on the
    whole of Cityscapes or ADE20K both means are the same number.

    A model that is worse than the most frequent class everywhere is warned of.

    Predictions go to ``output_dir`` as PNG, one for each image, in the folders that the images
    have below `root`, and hold the values that the label maps of the data set would. mmseg's lie in
    one folder, where images of the same name overwrite each other, and hold numbers of classes.

    Args:
        root: folder of the images; None to leave their folders out.
        values: of each class in the files; None for the numbers of the classes. `tools/test.py`
            and `tools/train.py` set both by the data set.
        output_dir: where to write predictions; None for nowhere.
        kwargs: arguments of mmseg's class.

    Attributes:
        batch_norm: whether the model has batch norm, as far as is known; see `NoteBatchNorm`.

    Raises:
        UserError: if a file cannot be written.
    """

    batch_norm = False

    def __init__(
        self,
        root: str | None = None,
        values: Sequence[int] | None = None,
        output_dir: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.root = root
        self.values = None if values is None else tuple(values)
        self.predictions = None if output_dir is None else Path(output_dir)
        self._images: dict[Path, str] = {}

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Compare predictions with labels, unless ``format_only``, and write them."""
        super().process(data_batch, data_samples)
        for sample in data_samples:
            if self.predictions is not None:
                self._write(sample['img_path'], sample['pred_sem_seg']['data'])
            if self.format_only:
                self.results.append(sample['img_path'])

    def _write(self, image: str, prediction: torch.Tensor) -> None:
        classes = prediction.squeeze().cpu().numpy().astype(np.int64)
        names = range(len(self.dataset_meta['classes'])) if self.values is None else self.values
        values = np.array(names)[classes]
        values = values.astype(np.uint8 if max(names) < 256 else np.uint16)
        path = self._path(image)
        try:
            write_atomically(path, cv2.imencode('.png', values)[1].tobytes())
        except OSError as error:
            raise UserError(
                f'{path}: cannot be written ({error.strerror}). Give another test_evaluator.'
                'output_dir.'
            ) from error

    def _path(self, image: str) -> Path:
        """Where the prediction of an image goes: no two images share a file."""
        assert self.predictions is not None
        absolute = Path(image).absolute()
        below = Path(absolute.name)
        if self.root is not None and absolute.is_relative_to(Path(self.root).absolute()):
            below = absolute.relative_to(Path(self.root).absolute())
        path = self.predictions / below.with_suffix('.png')
        if self._images.setdefault(path, image) != image:  # of another ending
            path = self.predictions / below.with_name(f'{below.name}.png')
            self._images[path] = image
        return path

    def compute_metrics(self, results: Sequence[Any]) -> dict[str, float]:
        """Return mmseg's metrics and ``mIoU_present``, in percent; none if ``format_only``."""
        if self.format_only:
            print_log(f'{len(results)} predictions are in {self.predictions}.', 'current')
            return {}
        metrics = super().compute_metrics(results)
        areas = [torch.stack(area).sum(0) for area in zip(*results, strict=True)]
        intersect, union, _, label = areas
        present = label > 0
        iou = intersect[present] / union[present]
        metrics['mIoU_present'] = round(100 * iou.mean().item(), 2)
        constant = (label.max() / label.sum() / present.sum()).item()
        if iou.mean().item() < constant:
            print_log(
                f'mIoU_present {100 * iou.mean().item():.2f} is below the {100 * constant:.2f} of '
                'the most frequent class everywhere.' + (_OF_BATCH_NORM if self.batch_norm else ''),
                'current',
                level=30,
            )
        return metrics
