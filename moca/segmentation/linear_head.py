"""The linear probe: one 1x1 convolution on patch features, normalised first if asked to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmcv.cnn import build_norm_layer
from mmengine.registry import MODELS
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor, nn


@MODELS.register_module()
class LinearSegHead(BaseDecodeHead):
    """Classifies each patch with one linear layer; mmseg upsamples the logits to pixels.

    The head runs in fp32 under autocast too: it costs next to nothing, and logits rounded to
    bfloat16 would be upsampled, summed over windows and compared at three digits.

    Args:
        in_channels: width of the features, a sequence of widths with
            ``input_transform='resize_concat'``.
        norm_cfg: None for a plain linear layer (Segmenter's linear decoder), or
            ``dict(type='SyncBN')`` to standardise the features first (the BN head of DINOv2).
        kwargs: arguments of mmseg's ``BaseDecodeHead``; ``channels`` follows from `in_channels`.
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        norm_cfg: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        width = in_channels if isinstance(in_channels, int) else sum(in_channels)
        kwargs.setdefault('dropout_ratio', 0.0)
        super().__init__(in_channels=in_channels, channels=width, norm_cfg=norm_cfg, **kwargs)
        self.norm = build_norm_layer(norm_cfg, width)[1] if norm_cfg else nn.Identity()

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Map features [B, C, h, w] of the chosen levels to logits [B, classes, h, w]."""
        features = self._transform_inputs(inputs)
        with torch.autocast(features.device.type, enabled=False):
            return self.cls_seg(self.norm(features.float()))
