"""EoMT for semantic segmentation, as a segmentor of mmseg."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.registry import MODELS
from mmengine.structures import InstanceData
from mmseg.models.segmentors.base import BaseSegmentor
from mmseg.structures import SegDataSample
from torch import Tensor

from moca.eomt.building import QueriedModel, build_parts
from moca.eomt.windows import class_scores, merge, windows_of
from moca.errors import UserError
from moca.segmentation.encoder_decoder import one_by_one
from moca.segmentation.label_maps import IGNORE


@MODELS.register_module()
class MaskTransformerSegmentor(QueriedModel, BaseSegmentor):
    """Semantic segmentation by the queries of a `MaskTransformer`.

    A target is one mask for each class that is present; ignored pixels belong to none of them, and
    so are negatives of all. Tests slide square windows along the long side of an image whose short
    side the pipeline has made as long as a window.

    Args:
        backbone: A `PlainViT` without windows.
        decode_head: ``num_classes``; ``num_queries`` (100) and ``num_blocks`` (4) of
            `MaskTransformer`; ``num_points`` of `MaskLoss`.
        data_preprocessor: mmseg's.
        train_cfg: Nothing; mmseg's configs have it.
        test_cfg: ``size``, side of the windows in pixels; ``windows`` that go through the network
            together (8).
        head_from: A published file whose queries and heads are taken; its backbone is the
            ``init_cfg`` of `backbone`.
        init_cfg: mmengine's.
        pretrained: Nothing; mmseg's `init_model` sets it.

    Raises:
        UserError: A field is unknown or missing.
    """

    head_field = 'decode_head'

    def __init__(
        self,
        backbone: dict[str, Any],
        decode_head: dict[str, Any],
        data_preprocessor: dict[str, Any] | None = None,
        train_cfg: dict[str, Any] | None = None,
        test_cfg: dict[str, Any] | None = None,
        head_from: str | None = None,
        init_cfg: dict[str, Any] | list[dict[str, Any]] | None = None,
        pretrained: None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.network, self.criterion = build_parts(backbone, decode_head, 'model.decode_head')
        self.num_classes = self.out_channels = self.criterion.num_classes
        self.align_corners = False
        self.head_from = head_from
        test = dict(test_cfg or {})
        if set(test) - {'size', 'windows'} or 'size' not in test:
            raise UserError(f'model.test_cfg={test}: takes size, in pixels, and windows.')
        self.size, self.windows = int(test['size']), int(test.get('windows', 8))

    def encode_decode(self, inputs: Tensor, batch_img_metas: list[dict[str, Any]]) -> Tensor:
        """Scores ``[B, C, H, W]`` of images as large as a window."""
        found = self.network(inputs)
        return class_scores(found.masks[-1], found.classes[-1], (inputs.shape[2], inputs.shape[3]))

    def loss(self, inputs: Tensor, data_samples: list[SegDataSample]) -> dict[str, Tensor]:
        """Losses of all predictions; see `MaskLoss`."""
        truth = [targets(sample.gt_sem_seg.data) for sample in data_samples]
        return self.criterion(self.network(inputs), truth)

    def test_step(self, data: Any) -> list[SegDataSample]:
        """Predict; images of a batch can be of different sizes, and take one pass each then."""
        if (singles := one_by_one(data)) is None:
            return super().test_step(data)
        return [super(MaskTransformerSegmentor, self).test_step(one)[0] for one in singles]

    def val_step(self, data: Any) -> list[SegDataSample]:
        """The same as `test_step`."""
        return self.test_step(data)

    def predict(
        self, inputs: Tensor, data_samples: list[SegDataSample] | None = None
    ) -> list[SegDataSample]:
        """Segment images ``[N, 3, H, W]`` of one size; returns samples as other segmentors do."""
        windows = windows_of(inputs.shape[2:], self.size)
        crops = [(n, rows, columns) for n in range(len(inputs)) for rows, columns in windows]
        parts: list[Tensor] = []
        for start in range(0, len(crops), self.windows):
            some = crops[start : start + self.windows]
            batch = torch.stack([inputs[n, :, rows, columns] for n, rows, columns in some])
            parts += self.encode_decode(batch, [])
        number = len(windows)
        merged = [merge(parts[n * number : (n + 1) * number], windows) for n in range(len(inputs))]
        return self.postprocess_result(torch.stack(merged), data_samples)


def targets(labels: Tensor) -> InstanceData:
    """One mask for each class that a label map ``[1, H, W]`` has."""
    present = labels.unique()
    present = present[present != IGNORE]
    return InstanceData(labels=present.long(), masks=labels == present[:, None, None])
