"""Test-time augmentation whose averages are of probabilities, for any head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.registry import MODELS
from mmengine.structures import PixelData
from mmseg.models.segmentors.seg_tta import SegTTAModel


@MODELS.register_module()
class AveragingTTAModel(SegTTAModel):
    """mmseg's `SegTTAModel`, which is also right for heads of one channel.

    mmseg applies the sigmoid of such a head in each prediction and once more on averaging: every
    probability is then above one half, and all is foreground.
    """

    def merge_preds(self, data_samples_list: Sequence[Sequence[Any]]) -> list[Any]:
        """Average the probabilities of each image's views.

        Args:
            data_samples_list: for each image, the predictions of its views, with ``seg_logits``
                ``[classes, H, W]``, or probabilities ``[1, H, W]`` from a head of one channel.

        Returns:
            For each image one sample, with ``pred_sem_seg`` ``[1, H, W]``.
        """
        merged = []
        for views in data_samples_list:
            total = sum(self._probabilities(view.seg_logits.data) for view in views)
            mean = torch.as_tensor(total) / len(views)
            if len(mean) == 1:
                labels = (mean > self.module.decode_head.threshold).long()
            else:
                labels = mean.argmax(dim=0, keepdim=True)
            sample = views[0]
            sample.set_data({'pred_sem_seg': PixelData(data=labels)})
            merged.append(sample)
        return merged

    def _probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        return logits if len(logits) == 1 else logits.softmax(dim=0)
