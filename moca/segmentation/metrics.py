"""Segmentation metrics that mmseg lacks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.registry import METRICS
from mmseg.evaluation.metrics import IoUMetric


@METRICS.register_module()
class PresentIoUMetric(IoUMetric):
    """mmseg's `IoUMetric` with ``mIoU_present``: the mean over classes that the labels contain.

    mmseg's mIoU counts a class that no label contains as 0 as soon as one pixel is predicted as
    it, and leaves it out otherwise. On a small validation set that is a matter of luck; on the
    whole of Cityscapes or ADE20K both means are the same number.

    A model that is worse than the most frequent class everywhere is warned of.
    """

    def compute_metrics(self, results: Sequence[Any]) -> dict[str, float]:
        """Return mmseg's metrics and ``mIoU_present``, in percent."""
        metrics = super().compute_metrics(results)
        if self.format_only:
            return metrics
        areas = [torch.stack(area).sum(0) for area in zip(*results, strict=True)]
        intersect, union, _, label = areas
        present = label > 0
        iou = intersect[present] / union[present]
        metrics['mIoU_present'] = round(100 * iou.mean().item(), 2)
        constant = (label.max() / label.sum() / present.sum()).item()
        if iou.mean().item() < constant:
            print_log(
                f'mIoU_present {100 * iou.mean().item():.2f} is below the {100 * constant:.2f} of '
                'the most frequent class everywhere. If the training accuracy is high, the running '
                'statistics of batch norm lag behind: default_hooks.batch_norm.type='
                'RecomputeBatchNorm measures them anew.',
                'current',
                level=30,
            )
        return metrics
