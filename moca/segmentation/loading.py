"""Loading label maps: each is checked as it is read, so that no wrong label reaches the loss."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mmcv
import mmengine.fileio
from mmengine.logging import print_log
from mmengine.registry import TRANSFORMS
from mmseg.datasets.transforms import LoadAnnotations
from numpy.typing import NDArray

from moca.errors import UserError
from moca.segmentation.label_files import LabelFault, decode_values, one_channel
from moca.segmentation.label_maps import IGNORE, LabelRule


@TRANSFORMS.register_module()
class LoadCheckedAnnotations(LoadAnnotations):
    """mmseg's `LoadAnnotations`, which refuses a label map that does not fit and names its file.

    mmseg cuts values to 8 bits, and hands a class that the head does not have to the loss, which on
    a GPU ends in a device-side assert. `tools/train.py` puts this class in the place of mmseg's.
    An image that comes without a label map, as from an inferencer, goes on without one.

    Args:
        num_classes: of the model's heads; None to take as many as there are `ids`.
        ids: the value of each class in the files, in the order of the classes, where that is not
            the number of the class. Of masks of black and white, [0, 255].
        ignore_ids: values that are ignored, beside 255; of 16 bits, such as 65535, too.
        kwargs: arguments of mmseg's class.

    Raises:
        UserError: on loading, naming the file: another size than its image's, colors instead of
            class numbers, a lossy format (JPEG), or values that are neither a class nor ignored.
    """

    def __init__(
        self,
        num_classes: int | None = None,
        ids: Sequence[int] | None = None,
        ignore_ids: Sequence[int] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if num_classes is None and ids is None:
            raise UserError('LoadCheckedAnnotations needs num_classes or ids.')
        self.num_classes = len(ids or ()) if num_classes is None else num_classes
        self.ids = None if ids is None else tuple(ids)
        self.ignore_ids = tuple(ignore_ids)
        self._rule: LabelRule | None = None
        self._warned = False

    def rule(self, about: dict[str, Any]) -> LabelRule:
        """The rule for a data set, of whose entries `about` is any (or its ``metainfo``).

        Raises:
            UserError: if the data set and this step of its pipeline contradict each other.
        """
        reduced = bool(about.get('reduce_zero_label'))
        if self.reduce_zero_label not in (None, reduced):
            raise UserError(
                f'reduce_zero_label is {self.reduce_zero_label} in LoadAnnotations and {reduced} '
                'in the data set. Set it in the data set alone.'
            )
        return LabelRule(
            num_classes=self.num_classes,
            reduce_zero_label=reduced,
            ids=self.ids,
            ignore_ids=self.ignore_ids,
            label_map=about.get('label_map'),
        )

    def _load_seg_map(self, results: dict[str, Any]) -> None:
        if 'seg_map_path' not in results:  # an image by itself, as inferencers give it
            return
        if self._rule is None:
            self._rule = self.rule(results)
        path = results['seg_map_path']
        try:
            content = mmengine.fileio.get(path, backend_args=self.backend_args)
        except OSError as error:
            raise UserError(f'{path}: cannot be read as a label map ({error}).') from error
        try:
            labels = self._rule.convert(self._decode(content), results.get('ori_shape'))
        except LabelFault as fault:
            raise UserError(f'{path}: {fault}.') from fault
        if not self._warned and labels.min(initial=IGNORE) == IGNORE:
            self._warned = True
            print_log(
                f'{Path(path)}: every pixel is ignored ({IGNORE}), so that there is nothing to '
                'learn from it. Further ones are not named; tools/prepare_data.py check CONFIG '
                'lists them all.',
                'current',
                level=30,
            )
        results['gt_seg_map'] = labels
        results['seg_fields'].append('gt_seg_map')

    def _decode(self, content: bytes) -> NDArray[Any]:
        if self.imdecode_backend == 'pillow':  # mmseg's default, and what the checks read by
            return decode_values(content)
        try:
            values = mmcv.imfrombytes(content, flag='unchanged', backend=self.imdecode_backend)
        except Exception as error:  # whatever a backend raises
            raise LabelFault(f'cannot be read as a label map ({error})') from error
        if values is None:
            raise LabelFault('cannot be read as a label map')
        return one_channel(values)
