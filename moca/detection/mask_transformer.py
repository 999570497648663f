"""EoMT for instance and panoptic segmentation, as a detector of mmdet."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from mmdet.models.detectors.base import BaseDetector
from mmdet.models.seg_heads import MaskFormerFusionHead
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.registry import MODELS
from mmengine.structures import InstanceData
from torch import Tensor

from moca.eomt.building import QueriedModel, build_parts
from moca.errors import UserError

_TEST = (
    *('panoptic_on', 'instance_on', 'max_per_image'),
    *('object_mask_thr', 'iou_thr', 'filter_low_score'),
)


@MODELS.register_module()
class MaskTransformerDetector(QueriedModel, BaseDetector):
    """Instance or panoptic segmentation by the queries of a `MaskTransformer`.

    A target is one mask for each object, and for each segment of stuff in panoptic segmentation;
    crowds are left out, and masks that a crop has emptied. Pixels of no mask are negatives of all.

    Args:
        backbone: A `PlainViT` without windows.
        panoptic_head: ``num_things_classes`` and ``num_stuff_classes``, things being numbered
            first; ``num_queries`` (100), ``num_blocks`` (4), ``num_points``, see `build_parts`.
        data_preprocessor: mmdet's.
        train_cfg: Nothing; mmdet's configs have it.
        test_cfg: Of mmdet's `MaskFormerFusionHead`: ``panoptic_on``, ``instance_on``,
            ``max_per_image``, ``object_mask_thr``, ``iou_thr``, ``filter_low_score``.
        head_from: A published file whose queries and heads are taken; its backbone is the
            ``init_cfg`` of `backbone`.
        init_cfg: mmengine's.

    Raises:
        UserError: A field is unknown or missing.
    """

    head_field = 'panoptic_head'

    def __init__(
        self,
        backbone: dict[str, Any],
        panoptic_head: dict[str, Any],
        data_preprocessor: dict[str, Any] | None = None,
        train_cfg: dict[str, Any] | None = None,
        test_cfg: dict[str, Any] | None = None,
        head_from: str | None = None,
        init_cfg: dict[str, Any] | list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        head, test = dict(panoptic_head), dict(test_cfg or {})
        if unknown := sorted(set(test) - set(_TEST)):
            raise UserError(f'model.test_cfg: unknown {unknown}; takes {", ".join(_TEST)}.')
        things, stuff = head.pop('num_things_classes', 0), head.pop('num_stuff_classes', 0)
        if not things + stuff:
            raise UserError('model.panoptic_head: needs num_things_classes or num_stuff_classes.')
        head['num_classes'] = things + stuff
        self.network, self.criterion = build_parts(backbone, head, 'model.panoptic_head')
        # no more than there are: mmdet asks for as many of the scores as it is told
        most = self.network.num_queries * (things + stuff)
        test['max_per_image'] = min(test.get('max_per_image', 100), most)
        self.test_cfg = ConfigDict(test)
        self.head_from = head_from
        self.fusion = MaskFormerFusionHead(things, stuff, test_cfg=self.test_cfg)

    def loss(
        self, batch_inputs: Tensor, batch_data_samples: list[DetDataSample]
    ) -> dict[str, Tensor]:
        """Losses of all predictions; see `MaskLoss`."""
        truth = [targets(sample.gt_instances, batch_inputs) for sample in batch_data_samples]
        return self.criterion(self.network(batch_inputs), truth)

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: list[DetDataSample]
    ) -> list[DetDataSample]:
        """Segment images ``[B, 3, H, W]``; results have the images' own sizes."""
        found = self.network(batch_inputs)
        size = (batch_inputs.shape[2], batch_inputs.shape[3])
        for masks, classes, sample in zip(
            found.masks[-1].float(), found.classes[-1].float(), batch_data_samples, strict=True
        ):
            masks = at_own_size(masks, size, sample.metainfo)
            if self.test_cfg.get('panoptic_on'):
                sample.pred_panoptic_seg = self.fusion.panoptic_postprocess(classes, masks)
            if self.test_cfg.get('instance_on'):
                sample.pred_instances = self.fusion.instance_postprocess(classes, masks)
        return batch_data_samples


def targets(instances: InstanceData, images: Tensor) -> InstanceData:
    """Labels and boolean masks ``[n, H, W]`` of what has at least a pixel.

    Args:
        instances: mmdet's, with ``labels`` and ``masks``, which end where an image does.
        images: The batch ``[B, 3, H, W]``, which may be padded.
    """
    masks = instances.masks.to_tensor(bool, images.device)
    height, width = images.shape[2:]
    masks = F.pad(masks, (0, width - masks.shape[2], 0, height - masks.shape[1]))
    there = masks.flatten(1).any(1)
    return InstanceData(labels=instances.labels[there].long(), masks=masks[there])


def at_own_size(masks: Tensor, size: tuple[int, int], about: dict[str, Any]) -> Tensor:
    """Logits ``[Q, h, w]`` at the size of the image that was resized and padded.

    Args:
        masks: Of the padded image.
        size: Height and width of the padded image.
        about: ``ori_shape`` and ``scale_factor`` (x, y), which tell where the padding begins; mmdet
            counts padding by the pipeline to ``img_shape``.
    """
    masks = F.interpolate(masks[None], size, mode='bilinear')
    height, width = about['ori_shape'][:2]
    across, down = about.get('scale_factor', (1.0, 1.0))
    masks = masks[..., : round(height * down), : round(width * across)]
    return F.interpolate(masks, (height, width), mode='bilinear')[0]
