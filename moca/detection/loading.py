"""Loading images of a detection data set, with words for the ones that cannot be loaded."""

from __future__ import annotations

from typing import Any

import cv2
from mmcv.transforms import LoadImageFromFile
from mmengine.logging import print_log
from mmengine.registry import TRANSFORMS

from moca.errors import UserError


@TRANSFORMS.register_module()
class LoadReadableImage(LoadImageFromFile):
    """mmcv's loading of an image, which names the file that it cannot decode.

    An image of another size than its annotations say (rotated by a camera's note, or exchanged)
    is refused as well: its boxes would lie elsewhere.

    Args:
        skip: Take another image, as mmengine's data sets do on None, and say so once in each
            loading process; for training. Evaluation stops, since its score would be of fewer
            images.
        kwargs: of `LoadImageFromFile`.
    """

    def __init__(self, skip: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.skip = skip
        self._skipped: set[str] = set()

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        """Add ``img``, ``img_shape`` and ``ori_shape``; None for a skipped image.

        Raises:
            UserError: naming the file, if it cannot be read or its size is wrong.
        """
        path = results['img_path']
        try:
            loaded = super().transform(results)
        except (OSError, AssertionError, ValueError, cv2.error) as error:
            if not self.skip:
                raise UserError(
                    f'{path}: cannot be decoded ({error}). Fetch it again, or leave it out of the '
                    'annotation file.'
                ) from error
            self._report(path, error)
            return None
        wanted = (results.get('height'), results.get('width'))
        if None not in wanted and results['img_shape'] != wanted:
            raise UserError(
                f'{path}: {results["img_shape"]} pixels (height, width), but its annotations are '
                f'of {wanted}. Give the image that was annotated.'
            )
        return loaded

    def _report(self, path: str, error: Exception) -> None:
        if path in self._skipped:
            return
        self._skipped.add(path)
        print_log(
            f'Image {len(self._skipped)} that cannot be decoded, skipped: {path} ({error})',
            'current',
            level=30,
        )
