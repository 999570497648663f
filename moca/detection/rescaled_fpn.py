"""iBOT's pyramid: four blocks of a plain ViT at four scales, then a feature pyramid network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmdet.models.necks import FPN
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from mmseg.models.necks import Feature2Pyramid
from torch import Tensor


@MODELS.register_module()
class RescaledFPN(BaseModule):
    """mmseg's `Feature2Pyramid`, the rescaling of BEiT and iBOT, in front of mmdet's `FPN`.

    Source: bytedance/ibot, evaluation/object_detection/mmcv_custom/register_backbone.py (fpn1 to
    fpn4) and configs/_base_/models/cascade_mask_rcnn_vit_fpn.py.

    Args:
        embed_dim: width of the backbone.
        out_channels: width of every level.
        rescales: of the four maps. Patches of 16 take (4, 2, 1, .5), patches of 8 half of these.
        norm_cfg: norm between the two transposed convolutions of the scale of 4.
        init_cfg: as of every mmengine module; torch's and mmdet's own initialisation by default.
    """

    def __init__(
        self,
        embed_dim: int,
        out_channels: int = 256,
        rescales: Sequence[float] = (4, 2, 1, 0.5),
        norm_cfg: dict[str, Any] | None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.rescale = Feature2Pyramid(embed_dim, list(rescales), norm_cfg or dict(type='SyncBN'))
        self.fpn = FPN([embed_dim] * len(rescales), out_channels, num_outs=len(rescales) + 1)

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return five fp32 maps [B, out_channels, ...], finest first, of four [B, C, h, w].

        They are contiguous, as mmcv's compiled RoIAlign takes them to be.
        """
        return tuple(level.float().contiguous() for level in self.fpn(self.rescale(inputs)))
