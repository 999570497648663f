"""Loading depth maps: each is checked as it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import mmengine.fileio
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS
from numpy.typing import NDArray

from moca.errors import UserError


class DepthFault(ValueError):
    """The content of a depth map is wrong; the text does not name the file."""


def decode_depth(data: bytes) -> NDArray[np.float32]:
    """Decode a depth map of one channel to its values as stored, ``[H, W]`` float32.

    Raises:
        DepthFault: if it is no image, of colors, or of values that are no numbers or negative.
    """
    try:
        values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise DepthFault(f'cannot be read as a depth map ({error.err or error})') from error
    if values is None:
        raise DepthFault('cannot be read as a depth map: write PNG of 16 bits, in millimeters')
    if values.ndim != 2:
        raise DepthFault(
            'holds colors, not distances. Write one channel; a picture of depth does not do'
        )
    depth = values.astype(np.float32)
    if not np.isfinite(depth).all() or depth.min(initial=0) < 0:
        raise DepthFault('holds values that are negative or no numbers. Write 0 where none is')
    return depth


def read_depth(path: str | Path, backend_args: Any = None) -> NDArray[np.float32]:
    """Read a depth map's values as stored, ``[H, W]`` float32.

    Raises:
        UserError: naming the file, if it cannot be read or is none.
    """
    try:
        return decode_depth(mmengine.fileio.get(str(path), backend_args=backend_args))
    except OSError as error:
        raise UserError(f'{path}: cannot be read as a depth map ({error}).') from error
    except DepthFault as fault:
        raise UserError(f'{path}: {fault}.') from fault


def size_fault(found: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    """Say that a depth map is of another size than its image; both are (height, width)."""
    return (
        f'is {found[1]} x {found[0]}, its image {wanted[1]} x {wanted[0]} (width x height): is it '
        'the depth map of another image, or was one of the two resized?'
    )


@TRANSFORMS.register_module()
class LoadCheckedDepthAnnotations(BaseTransform):
    """mmseg's `LoadDepthAnnotation`, which refuses a depth map that does not fit its image.

    Args:
        depth_rescale_factor: from values of the files to meters: 1e-3 for millimeters.
        backend_args: of mmengine's file access.
    """

    def __init__(self, depth_rescale_factor: float = 1e-3, backend_args: Any = None) -> None:
        self.depth_rescale_factor, self.backend_args = depth_rescale_factor, backend_args

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add ``gt_depth_map`` ``[H, W]`` float32 in meters, 0 where none is.

        Raises:
            UserError: naming the file, if it is no depth map or of another size than its image.
        """
        if 'depth_map_path' not in results:  # an image by itself, as inferencers give it
            return results
        path = results['depth_map_path']
        depth = read_depth(path, self.backend_args)
        size = results.get('ori_shape')
        if size is not None and depth.shape != tuple(size):
            raise UserError(f'{path}: {size_fault(depth.shape, size)}')
        results['gt_depth_map'] = depth * np.float32(self.depth_rescale_factor)
        results['depth_rescale_factor'] = self.depth_rescale_factor
        results['seg_fields'].append('gt_depth_map')
        return results
