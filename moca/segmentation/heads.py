"""The linear probe: one 1x1 convolution on patch features, normalized first if asked to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmengine.model.weight_init import trunc_normal_
from mmengine.registry import MODELS
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.decode_heads.segmenter_mask_head import SegmenterMaskTransformerHead
from mmseg.models.decode_heads.uper_head import UPerHead
from mmseg.models.utils import resize
from torch import Tensor, nn

from moca.segmentation.window_merge import resizing_matrix


@MODELS.register_module()
class LinearSegHead(BaseDecodeHead):
    """Classifies each patch with one linear layer; mmseg upsamples the logits to pixels.

    The head runs in fp32 under autocast too: it costs next to nothing, and logits rounded to
    bfloat16 would be upsampled, summed over windows and compared at three digits.

    Args:
        in_channels: width of the features, a sequence of widths with
            ``input_transform='resize_concat'``.
        norm_cfg: None for a plain linear layer (Segmenter's linear decoder), or
            ``dict(type='SyncBN')`` to standardize the features first (the BN head of DINOv2).
        dropout_first: drop channels of the features before they are standardized, as DINOv3's
            head does; else after it, as mmseg's heads do.
        kwargs: arguments of mmseg's ``BaseDecodeHead``; ``channels`` follows from `in_channels`.
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        norm_cfg: dict[str, Any] | None = None,
        dropout_first: bool = False,
        **kwargs: Any,
    ) -> None:
        width = in_channels if isinstance(in_channels, int) else sum(in_channels)
        kwargs.setdefault('dropout_ratio', 0.0)
        super().__init__(in_channels=in_channels, channels=width, norm_cfg=norm_cfg, **kwargs)
        self.norm = build_norm_layer(norm_cfg, width)[1] if norm_cfg else nn.Identity()
        self.dropout_first = dropout_first

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Map features [B, C, h, w] of the chosen levels to logits [B, classes, h, w]."""
        features = self._transform_inputs(inputs)
        with torch.autocast(features.device.type, enabled=False):
            if self.dropout_first and self.dropout is not None:
                return self.conv_seg(self.norm(self.dropout(features.float())))
            return self.cls_seg(self.norm(features.float()))


@MODELS.register_module()
class MaskTransformerHead(SegmenterMaskTransformerHead):
    """mmseg's mask transformer with the initial weights of Segmenter's own.

    Source: rstrudel/segmenter, segm/model/decoder.py: the projections of patches and classes start
    from N(0, width ** -1/2), every linear layer, those of the attention too, from N(0, .02) with
    zero bias. In mmseg's the former start from N(0, .02), the attention's from Xavier.
    """

    def init_weights(self) -> None:
        """Draw the weights anew."""
        super().init_weights()
        for module in self.modules():
            if isinstance(module, nn.MultiheadAttention):
                trunc_normal_(module.in_proj_weight, std=self.init_std)
                nn.init.zeros_(module.in_proj_bias)
        for projection in (self.patch_proj, self.classes_proj):
            nn.init.normal_(projection.weight, std=projection.in_features**-0.5)


@MODELS.register_module()
class LeanUPerHead(UPerHead):
    """mmseg's `UPerHead`: the same parameters under the same names, and the same logits.

    Both of its bottlenecks convolve maps of several resolutions which mmseg first enlarges to the
    largest and concatenates. Mixing channels and enlarging are linear and can change places: each
    map's channels are mixed at its own resolution, once for each of the kernel's 3 x 3 places, and
    the shifted results are enlarged and added up. Of the 0.97 TFLOP that the head takes for 512 x
    512 pixels at 768 channels that leaves 0.51, and neither enlarged maps nor their concatenation
    are kept for the backward pass. Results differ by rounding.

    Args:
        kwargs: arguments of mmseg's class.
    """

    def _forward_feature(self, inputs: Sequence[Tensor]) -> Tensor:
        """The map ``[N, channels, H, W]`` that pixels are classified from, of the finest level."""
        *fine, coarsest = self._transform_inputs(inputs)
        pooled = [pool(coarsest) for pool in self.psp_modules]
        levels = [self._mixed(self.bottleneck, [coarsest, *pooled])]
        for lateral, x in zip(reversed(self.lateral_convs), reversed(fine), strict=True):
            size = x.shape[2:]
            above = resize(levels[0], size, mode='bilinear', align_corners=self.align_corners)
            levels.insert(0, lateral(x) + above)
        outputs = [conv(x) for conv, x in zip(self.fpn_convs, levels, strict=False)]
        return self._mixed(self.fpn_bottleneck, [*outputs, levels[-1]])

    def _mixed(self, module: Any, levels: Sequence[Tensor]) -> Tensor:
        """What a `ConvModule` makes of maps enlarged to the size of the first, concatenated."""
        conv = module.conv
        first, *others = conv.weight.split([level.shape[1] for level in levels], dim=1)
        x = F.conv2d(levels[0], first, conv.bias, padding=1)
        size = (levels[0].shape[2], levels[0].shape[3])
        x = x + convolve_enlarged(levels[1:], others, size, self.align_corners)
        return module.activate(module.norm(x) if module.with_norm else x)


def convolve_enlarged(
    maps: Sequence[Tensor], weights: Sequence[Tensor], size: tuple[int, int], align_corners: bool
) -> Tensor:
    """Enlarge maps bilinearly, convolve each with a 3 x 3 kernel (padded by 1), and add them up.

    Args:
        maps: ``[N, C, h, w]`` each, of any resolutions.
        weights: a kernel ``[O, C, 3, 3]`` for each map.
        size: height and width to enlarge to.

    Returns:
        ``[N, O, height, width]``.
    """
    rows, wide = [], []
    for x, weight in zip(maps, weights, strict=True):
        columns = _shifted(resizing_matrix(x.shape[3], size[1], align_corners))
        columns = columns.flatten(1).T.to(x.device)
        for place in range(3):
            kernel = weight[:, :, place].permute(2, 0, 1).flatten(0, 1)[..., None, None]
            mixed = F.conv2d(x, kernel).unflatten(1, (3, len(weight)))
            mixed = mixed.permute(0, 2, 3, 1, 4).flatten(3)  # [N, O, h, 3 * w]
            wide.append(mixed @ columns.to(mixed.dtype))
        rows.append(_shifted(resizing_matrix(x.shape[2], size[0], align_corners)).flatten(1))
    both = torch.cat(wide, dim=2)
    return torch.cat(rows, dim=1).to(both) @ both


def _shifted(matrix: Tensor) -> Tensor:
    """The matrix ``[L, K]`` for each row's neighbor before, itself and after: ``[L, 3, K]``."""
    return torch.stack([F.pad(matrix, (0, 0, 1, 1))[i : i + len(matrix)] for i in range(3)], dim=1)
