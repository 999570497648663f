"""ViTDet's simple feature pyramid: every level from the last map of a plain ViT."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from mmdet.models.necks import FPN
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from mmseg.models.necks import Feature2Pyramid
from timm.layers import LayerNorm2d
from torch import Tensor, nn

from moca.errors import UserError

MODELS.register_module(name='LayerNorm2d', module=LayerNorm2d)


@MODELS.register_module()
class SimpleFeaturePyramid(BaseModule):
    """Levels at 4, 2, 1 and 1/2 times the resolution of one map, and one more by subsampling.

    "Exploring Plain Vision Transformer Backbones for Object Detection", section 3; layers and
    their order as in detectron2's ``SimpleFeaturePyramid`` with ``norm='LN'``: transposed
    convolutions or max-pooling, then a 1x1 and a 3x3 convolution without bias, each followed by a
    layer norm over channels. With patches of 16 pixels the strides are 4, 8, 16, 32 and 64.

    Args:
        in_channels: width of the backbone.
        out_channels: width of every level.
        init_cfg: as of every mmengine module; torch's own initialization by default, as ViTDet.

    Raises:
        UserError: if `in_channels` is not divisible by 4.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 256,
        init_cfg: dict[str, Any] | list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if in_channels % 4:
            raise UserError(
                f'SimpleFeaturePyramid: in_channels={in_channels} is not divisible by 4, '
                'as its finest level needs.'
            )
        half, quarter = in_channels // 2, in_channels // 4
        resampling: list[tuple[int, list[nn.Module]]] = [
            (
                quarter,
                [
                    nn.ConvTranspose2d(in_channels, half, 2, stride=2),
                    LayerNorm2d(half),
                    nn.GELU(),
                    nn.ConvTranspose2d(half, quarter, 2, stride=2),
                ],
            ),
            (half, [nn.ConvTranspose2d(in_channels, half, 2, stride=2)]),
            (in_channels, []),
            (in_channels, [nn.MaxPool2d(2)]),
        ]
        self.levels = nn.ModuleList(
            nn.Sequential(
                *layers,
                nn.Conv2d(width, out_channels, 1, bias=False),
                LayerNorm2d(out_channels),
                nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
                LayerNorm2d(out_channels),
            )
            for width, layers in resampling
        )

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return five fp32 maps [B, out_channels, ...], finest first, of one map [B, C, h, w].

        They are contiguous: `LayerNorm2d` leaves channels last, whose strides mmcv's compiled
        RoIAlign does not read.

        Raises:
            UserError: if the backbone gives more than one map.
        """
        if len(inputs) != 1:
            raise UserError(
                f'SimpleFeaturePyramid takes one map and got {len(inputs)}: '
                'set model.backbone.out_indices=(-1,).'
            )
        levels = [level(inputs[0]).float().contiguous() for level in self.levels]
        levels.append(F.max_pool2d(levels[-1], kernel_size=1, stride=2))
        return tuple(levels)


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
        init_cfg: as of every mmengine module; torch's and mmdet's own initialization by default.
    """

    def __init__(
        self,
        embed_dim: int,
        out_channels: int = 256,
        rescales: Sequence[float] = (4, 2, 1, 0.5),
        norm_cfg: dict[str, Any] | None = None,
        init_cfg: dict[str, Any] | list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.rescale = Feature2Pyramid(embed_dim, list(rescales), norm_cfg or dict(type='SyncBN'))
        self.fpn = FPN([embed_dim] * len(rescales), out_channels, num_outs=len(rescales) + 1)

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return five fp32 maps [B, out_channels, ...], finest first, of four [B, C, h, w].

        They are contiguous, as mmcv's compiled RoIAlign takes them to be.
        """
        return tuple(level.float().contiguous() for level in self.fpn(self.rescale(inputs)))
