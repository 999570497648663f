"""The linear head of depth: probabilities of bins for each patch, and the depth they expect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from moca.errors import UserError


@MODELS.register_module()
class LinearDepthHead(BaseModule):
    """Batch norm over channels, a 1x1 convolution to bins, and the depth expected by them.

    The bins are evenly spaced from `min_depth` to `max_depth`; their weights are ``relu(logit) +
    0.1`` over the sum of these. Depth is computed for each patch, and enlarged then: logits or
    weights that are enlarged give other depths. Source: facebookresearch/dinov3, eval/depth.

    It runs in fp32 under autocast, too.

    Args:
        in_channels: width of the features.
        loss_decode: config of the loss of (prediction, truth, new_step), a `SigLoss`.
        bins: how many.
        min_depth, max_depth: of the first and the last bin, in meters.
        norm_cfg: of the norm over channels.
        init_cfg: as mmengine's modules take it.

    Raises:
        UserError: if there are less than two bins, or no room between the first and the last.
    """

    # what mmseg's segmentors ask of their heads
    align_corners = False
    num_classes = out_channels = 1

    def __init__(
        self,
        in_channels: int,
        loss_decode: dict[str, Any],
        bins: int = 256,
        min_depth: float = 1e-3,
        max_depth: float = 10.0,
        norm_cfg: dict[str, Any] | None = None,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg)
        if bins < 2 or not 0 < min_depth < max_depth:
            raise UserError(
                f'model.decode_head: bins={bins} from min_depth={min_depth} to '
                f'max_depth={max_depth} meters: give two bins or more and growing depths above 0.'
            )
        self.min_depth, self.max_depth = min_depth, max_depth
        self.norm = build_norm_layer(norm_cfg or dict(type='SyncBN'), in_channels)[1]
        self.conv = nn.Conv2d(in_channels, bins, 1)
        self.loss_decode = MODELS.build(loss_decode)
        depths = torch.linspace(min_depth, max_depth, bins)
        self.register_buffer('depths', depths, persistent=False)

    depths: Tensor

    def logits(self, features: Sequence[Tensor]) -> Tensor:
        """Map features ``[B, C, h, w]`` (the last of several maps) to ``[B, bins, h, w]``."""
        with torch.autocast(features[-1].device.type, enabled=False):
            return self.conv(self.norm(features[-1].float()))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Depth of each patch in meters, ``[B, 1, h, w]``."""
        weights = F.relu(self.logits(features)) + 0.1
        weights = weights / weights.sum(1, keepdim=True)
        return torch.einsum('bkhw,k->bhw', weights, self.depths).unsqueeze(1)

    def enlarged(self, features: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """Depth in meters of a height and width in pixels, ``[B, 1, H, W]``."""
        depth = self(features)
        return F.interpolate(depth, tuple(size), mode='bilinear', align_corners=False)

    def loss(
        self,
        features: Sequence[Tensor],
        data_samples: Sequence[Any],
        train_cfg: Any = None,
        new_step: bool = True,
    ) -> dict[str, Tensor]:
        """The loss against ``gt_depth_map`` ``[1, H, W]`` of each sample, in meters."""
        truth = torch.stack([sample.gt_depth_map.data for sample in data_samples])
        prediction = self.enlarged(features, truth.shape[2:])
        return dict(loss_depth=self.loss_decode(prediction, truth, new_step))
