"""Errors of depth, by mmseg's metric."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.logging import print_log
from mmengine.registry import METRICS
from mmseg.evaluation import DepthMetric

from moca.errors import UserError

NYU_SIZE = (480, 640)
"""Height and width of NYUv2's images, which the rectangle of its evaluation belongs to."""


@METRICS.register_module()
class CheckedDepthMetric(DepthMetric):
    """mmseg's `DepthMetric`: errors of each image, averaged over images, in meters.

    An image without a pixel of a depth between the bounds has no error: it is left out of the
    mean, which is said, where mmseg's mean would be no number.

    Args:
        kwargs: of mmseg's class; ``crop_type='nyu_crop'`` belongs to images of 480 x 640.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.left_out = 0

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Take predictions with their truth.

        Raises:
            UserError: naming the file, if NYUv2's rectangle is cut from another size.
        """
        for sample in data_samples:
            depth = None if self.format_only else sample['gt_depth_map']['data'].squeeze()
            if depth is not None and self.crop_type == 'nyu_crop' and depth.shape != NYU_SIZE:
                raise UserError(
                    f'{sample["img_path"]}: a depth map of {tuple(depth.shape)} (height, width), '
                    f'but val_evaluator.crop_type=nyu_crop is for {NYU_SIZE}. Set it to None.'
                )
            if depth is None or self._get_eval_mask(depth).any():
                super().process(data_batch, [sample])
                continue
            self.left_out += 1
            # processes' lists are joined by the places of images, without what is None
            self.results.append(())
            print_log(
                f'{sample["img_path"]}: no pixel of a depth between {self.min_depth_eval} and '
                f'{self.max_depth_eval} m; left out of the mean.',
                'current',
                level=30,
            )

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Return the mean of each metric over images.

        Raises:
            UserError: if no image has a depth between the bounds.
        """
        results = [result for result in results if result]
        if not results and not self.format_only:
            raise UserError(
                'val_evaluator: no image has a pixel of a depth between min_depth_eval and '
                'max_depth_eval. Is depth_rescale_factor right?'
            )
        return super().compute_metrics(results)
