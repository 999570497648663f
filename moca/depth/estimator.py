"""mmseg's depth estimator on centered whole patches, with a mirrored second look in tests."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from mmengine.registry import MODELS
from mmseg.models.segmentors import DepthEstimator
from torch import Tensor

from moca.errors import UserError


def pad_centered(images: Tensor, multiple: int) -> Tensor:
    """Pad images ``[..., H, W]`` with zeros to multiples of a number, evenly on both sides.

    Of an odd number of rows or columns the larger part is below and right. Source:
    facebookresearch/dinov2 and dinov3 (CenterPadding).
    """
    sides: list[int] = []
    for size in (images.shape[-1], images.shape[-2]):
        missing = -size % multiple
        sides += [missing // 2, missing - missing // 2]
    return F.pad(images, sides) if any(sides) else images


@MODELS.register_module()
class CenteredDepthEstimator(DepthEstimator):
    """mmseg's `DepthEstimator` for a `LinearDepthHead` on a `PlainViT`.

    Images are padded to whole patches on all sides, after normalization. Depth is enlarged from
    the patches to the whole image without cutting that margin off, as the source does. Tests take
    the mean of the prediction and of the mirrored image's, clamped to the range of the head.

    Args:
        test_cfg: ``mode='whole'``, and ``mirrored``, whether to look at the mirrored image too.
        kwargs: of mmseg's class.

    Raises:
        UserError: if ``test_cfg`` says anything else.
    """

    part = (0, 1)
    """Number of the batch among those that are accumulated in a step, and how many these are."""

    def __init__(self, test_cfg: dict[str, Any] | None = None, **kwargs: Any) -> None:
        settings = dict(test_cfg or {})
        self.mirrored = bool(settings.pop('mirrored', False))
        if settings.pop('mode', 'whole') != 'whole' or settings:
            raise UserError(
                f"model.test_cfg={dict(test_cfg or {})}: depth takes mode='whole' and mirrored."
            )
        super().__init__(test_cfg=dict(mode='whole'), **kwargs)

    def extract_feat(self, inputs: Tensor, batch_img_metas: Any = None) -> Any:
        """Maps of the backbone of images ``[B, 3, H, W]``, padded to whole patches."""
        return super().extract_feat(pad_centered(inputs, self.backbone.patch_size), batch_img_metas)

    def _decode_head_forward_train(self, inputs: Any, data_samples: Any) -> dict[str, Tensor]:
        new_step = self.part[0] == 0
        losses = self.decode_head.loss(inputs, data_samples, self.train_cfg, new_step)
        return {f'decode.{name}': value for name, value in losses.items()}

    def inference(self, inputs: Tensor, batch_img_metas: Any = None) -> Tensor:
        """Depth of images ``[B, 3, H, W]`` in meters, ``[B, 1, H, W]``."""
        size = inputs.shape[2:]
        depth = self.decode_head.enlarged(self.extract_feat(inputs), size)
        if self.mirrored:
            features = self.extract_feat(inputs.flip(3))
            depth = (depth + self.decode_head.enlarged(features, size).flip(3)) / 2
        return depth.clamp(self.decode_head.min_depth, self.decode_head.max_depth)
