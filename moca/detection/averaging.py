"""Test-time augmentation of detectors, whose boxes alone can be merged."""

from __future__ import annotations

from typing import Any

from mmdet.models.test_time_augs import DetTTAModel
from mmengine.registry import MODELS


@MODELS.register_module()
class BoxTTAModel(DetTTAModel):
    """mmdet's `DetTTAModel`, for detectors that predict masks as well, which it refuses.

    Boxes of all views are suppressed together; masks are left out.
    """

    def _merge_single_sample(self, data_samples: list[Any]) -> Any:
        for sample in data_samples:
            sample.pred_instances.pop('masks', None)
        return super()._merge_single_sample(data_samples)
