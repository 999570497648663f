"""Loading images of downstream data sets: by the suite's one reader, naming what cannot be read."""

from __future__ import annotations

import os
from typing import Any

import cv2
import mmengine.fileio
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine.logging import print_log
from mmengine.registry import TRANSFORMS

from moca.errors import UserError
from moca.images.image_io import CorruptImage, open_image
from moca.images.inspection import inspect


@TRANSFORMS.register_module()
class LoadReadableImage(LoadImageFromFile):
    """mmcv's loading of an image with the pixels of :mod:`moca.images.image_io`.

    `tools/train.py` puts it in the place of mmcv's, which turns an image as its EXIF data say
    (its label map stays as it is), and ends in OpenCV's errors where a file is broken. An image of
    another size than its annotations say is refused: its boxes would lie elsewhere.

    Args:
        skip: Take another image, as mmengine's data sets do on None, and say so once in each
            loading process; for training. Evaluation stops, since its score would be of fewer
            images.
        kwargs: of `LoadImageFromFile`. Of another ``color_type`` than color, or with another
            backend than OpenCV, mmcv reads the file.
    """

    def __init__(self, skip: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.skip = skip
        self._skipped: set[str] = set()
        self._by_mmcv = (
            self.color_type not in ('color', 'color_ignore_orientation')
            or self.imdecode_backend != 'cv2'
            or self.file_client_args is not None
        )

    def transform(self, results: Any) -> dict[str, Any] | None:
        """Add ``img`` ``[H, W, 3]`` BGR, ``img_shape`` and ``ori_shape``; None if skipped.

        Args:
            results: mmengine's, with ``img_path``; from the inferencers of mmseg and mmdet, a file
                or an image, by itself or as ``img_path`` or ``img`` of a dict.

        Raises:
            UserError: naming the file, if it cannot be read or its size is wrong; or an array is
                no image.
        """
        if isinstance(results, str | os.PathLike):
            results = dict(img_path=os.fspath(results))
        elif isinstance(results, np.ndarray):
            results = dict(img=results)
        if 'img_path' not in results:
            return self._given(results)
        path = results['img_path']
        try:
            loaded = super().transform(results) if self._by_mmcv else self._load(results)
        except (OSError, AssertionError, ValueError, cv2.error, CorruptImage) as error:
            if not (self.skip or self.ignore_empty):
                raise UserError(
                    f'{path}: cannot be decoded ({error}). Fetch it again, or leave it out of the '
                    'data set.'
                ) from error
            self._report(path, error)
            return None
        height, width = results.get('height'), results.get('width')
        if height is None or width is None or results['img_shape'] == (height, width):
            return loaded
        note = inspect(path, decode=False).size_note(height, width)
        raise UserError(
            f'{path}: {results["img_shape"]} pixels (height, width), but its annotations are of '
            f'{(height, width)}{note or ". Give the image that was annotated"}.'
        )

    def _load(self, results: dict[str, Any]) -> dict[str, Any]:
        data = mmengine.fileio.get(results['img_path'], backend_args=self.backend_args)
        image = open_image(data).decode()
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR, dst=image)
        results['img'] = image.astype(np.float32) if self.to_float32 else image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results

    def _given(self, results: dict[str, Any]) -> dict[str, Any]:
        image = np.asarray(results['img'])
        if image.ndim == 2:
            image = np.repeat(image[..., None], 3, axis=2)
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise UserError(
                f'an image of shape {image.shape} and {image.dtype}: give [H, W, 3] of uint8, in '
                "OpenCV's order of blue, green, red, or [H, W]."
            )
        results['img'] = image.astype(np.float32) if self.to_float32 else image
        results['img_path'] = None
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results

    def _report(self, path: str, error: Exception) -> None:
        if path in self._skipped:
            return
        self._skipped.add(path)
        print_log(
            f'Image {len(self._skipped)} that cannot be decoded, skipped: {path} ({error})',
            'current',
            level=30,
        )
