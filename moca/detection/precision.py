"""Layers that compute in fp32 under autocast, for what box coordinates and rankings hang on.

A box regressed in bfloat16 is off by pixels, and scores near 1 tie. Everything in front of these
layers may run in low precision; the pyramid hands on fp32 maps, so that regions of interest are
pooled at full-precision coordinates (mmdet casts the boxes to the type of the map).
"""

from __future__ import annotations

import torch
from mmdet.models.dense_heads import RPNHead
from mmengine.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class Fp32Linear(nn.Linear):
    """A linear layer that ignores autocast, e.g. as ``cls_predictor_cfg`` of a box head."""

    def forward(self, input: Tensor) -> Tensor:
        """Map [..., in_features] of any type to fp32 [..., out_features]."""
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.float())


@MODELS.register_module()
class Fp32Conv2d(nn.Conv2d):
    """A convolution that ignores autocast, e.g. as ``predictor_cfg`` of a mask head."""

    def forward(self, input: Tensor) -> Tensor:
        """Map [B, C, H, W] of any type to fp32 maps."""
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.float())


@MODELS.register_module()
class Fp32RPNHead(RPNHead):
    """mmdet's `RPNHead` with objectness and box deltas in fp32; the same parameter names."""

    def _init_layers(self) -> None:
        super()._init_layers()
        for name in ('rpn_cls', 'rpn_reg'):
            layer = getattr(self, name)
            setattr(self, name, Fp32Conv2d(layer.in_channels, layer.out_channels, 1))
