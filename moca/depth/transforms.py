"""Transforms of images with depth maps that mmseg does not have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS

from moca.errors import UserError


@TRANSFORMS.register_module()
class CutFrame(BaseTransform):
    """Cuts images and depth maps to a rectangle, such as NYUv2's without its white border.

    Args:
        rows: first row, and the one behind the last.
        columns: likewise.
    """

    def __init__(self, rows: Sequence[int], columns: Sequence[int]) -> None:
        self.rows, self.columns = (int(rows[0]), int(rows[1])), (int(columns[0]), int(columns[1]))

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Cut ``img`` and all ``seg_fields``.

        Raises:
            UserError: naming the file, if the image ends within the rectangle.
        """
        height, width = results['img'].shape[:2]
        if height < self.rows[1] or width < self.columns[1]:
            raise UserError(
                f'{results.get("img_path")}: {width} x {height} pixels, of which CutFrame is to '
                f'keep columns {self.columns} and rows {self.rows}. Remove it from the pipeline '
                'of images that have no border.'
            )
        for field in ('img', *results.get('seg_fields', ())):
            results[field] = results[field][slice(*self.rows), slice(*self.columns)]
        results['img_shape'] = results['img'].shape[:2]
        return results


@TRANSFORMS.register_module()
class RandomDepthColors(BaseTransform):
    """Changes gamma, brightness and channels of an image; the ranges are of uniform factors.

    ``clip(image ** gamma * brightness * channel, 0, 255)`` with values from 0 to 255, so that gamma
    changes brightness, too. Source: facebookresearch/dinov3, eval/depth, after BTS.

    Args:
        prob: of any change.
        gamma: of the exponent.
        brightness: of a factor for the whole image.
        channels: of a factor for each channel.
    """

    def __init__(
        self,
        prob: float = 0.5,
        gamma: tuple[float, float] = (0.9, 1.1),
        brightness: tuple[float, float] = (0.75, 1.25),
        channels: tuple[float, float] = (0.9, 1.1),
    ) -> None:
        self.prob = prob
        self.gamma, self.brightness, self.channels = gamma, brightness, channels

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Change ``img`` ``[H, W, 3]``, which is float32 then."""
        if np.random.random() >= self.prob:
            return results
        image = results['img'].astype(np.float32) ** np.float32(np.random.uniform(*self.gamma))
        factors = np.random.uniform(*self.brightness) * np.random.uniform(*self.channels, size=3)
        results['img'] = np.clip(image * factors.astype(np.float32), 0, 255)
        return results
