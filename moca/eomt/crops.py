"""Crops without a mask are drawn again from the same image."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from mmcv.transforms import BaseTransform, Compose
from mmengine.logging import print_log
from mmengine.registry import TRANSFORMS

TRIES = 100
"""Draws of an image [choice]; the source has no limit. Of draws from .1 to 2 of the size one in six
holds an object of one pixel, counting those alone that shrink the image."""

VOID = 255
"""Of no class in the label maps of mmseg."""


@TRANSFORMS.register_module()
class RedrawEmpty(BaseTransform):
    """Apply transforms that draw crops until a crop holds a part of a mask.

    Source: tue-mps/eomt, datasets/transforms.py. Its draws go on in the image's stream of random
    numbers, so that a resumed run repeats them.

    An image that has no mask from the start, but only void and crowds, is left out: the data set
    gives another image in its place, as for one that cannot be read. The first one is named.

    Args:
        transforms: Configs of transforms, in their order.
    """

    def __init__(self, transforms: Sequence[dict[str, Any]]) -> None:
        self.transforms = Compose(list(transforms))
        self._warned = False

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        """Return the first draw with a mask, or None if there is none."""
        if has_mask(results):
            for _ in range(TRIES):
                # transforms of mmdet move boxes in place
                drawn = self.transforms(copy.deepcopy(results))
                if drawn is not None and has_mask(drawn):
                    return dict(drawn)
        if not self._warned:
            self._warned = True
            print_log(
                f'{results.get("img_path", "an image")}: no mask to learn from, but only void or '
                f'crowds, or too little for {TRIES} crops: another image is drawn in its place. '
                'Further ones are not named.',
                'current',
                level=30,
            )
        return None


def has_mask(results: dict[str, Any]) -> bool:
    """Whether a label map has a class, or one of the masks that are no crowds has a pixel.

    Args:
        results: Of a pipeline: ``gt_seg_map`` ``[H, W]``, or ``gt_masks`` and ``gt_ignore_flags``.
    """
    if 'gt_masks' not in results:
        return bool((results['gt_seg_map'] != VOID).any())
    masks, crowds = results['gt_masks'], results['gt_ignore_flags']
    return any(not crowds[number] and masks[number].areas.any() for number in range(len(masks)))
