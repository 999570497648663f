"""A segmentor that slides windows in batches and enlarges logits in parts only.

The results are mmseg's, up to the rounding of float32: see `moca.segmentation.window_merge`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.registry import MODELS
from mmengine.structures import PixelData
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.segmentors import EncoderDecoder
from mmseg.structures import SegDataSample
from mmseg.utils import add_prefix
from torch import Tensor, nn

from moca.engine.config_check import check_arguments
from moca.errors import UserError
from moca.segmentation.pixel_loss import can_be_in_parts, loss_in_parts
from moca.segmentation.window_merge import Axis, Output, merged_rows, merging_matrix

WINDOWS_AT_A_TIME = {'cpu': 2}
"""Windows that go through the network together [choice], by kind of device. On CPUs more bring
nothing (measured)."""
_WINDOWS_ELSEWHERE = 8  # the smallest batch of the recipes: what trains one, can test so


@dataclass(frozen=True)
class SlideSettings:
    """``test_cfg`` of a `LeanEncoderDecoder` in mode 'slide'.

    Attributes:
        mode: 'slide'.
        crop_size: height and width of a window in pixels.
        stride: rows and columns from a window to the next.
        windows: how many go through the network together; None for as many as suit the device.
        keep_logits: whether predictions have ``seg_logits`` as mmseg's, which test-time
            augmentation needs; at full resolution, they take more memory than all the rest.

    Raises:
        UserError: if a stride leaves gaps between windows, or `windows` is no number of windows.
    """

    mode: str
    crop_size: tuple[int, int]
    stride: tuple[int, int]
    windows: int | None = None
    keep_logits: bool = True

    def __post_init__(self) -> None:
        if any(s > c or s < 1 for s, c in zip(self.stride, self.crop_size, strict=True)):
            raise UserError(
                f'model.test_cfg: stride={self.stride} leaves pixels without a window of '
                f'crop_size={self.crop_size}. Choose strides from 1 to the size of the window.'
            )
        if self.windows is not None and self.windows < 1:
            raise UserError(f'model.test_cfg.windows={self.windows}: at least 1, or leave it out.')

    def at_a_time(self, device: torch.device) -> int:
        """The number of windows to take together on a device."""
        return self.windows or WINDOWS_AT_A_TIME.get(device.type, _WINDOWS_ELSEWHERE)


@MODELS.register_module()
class LeanEncoderDecoder(EncoderDecoder):
    """mmseg's `EncoderDecoder` in less time and memory, which never has the classes of all pixels.

    In training, heads of plain cross-entropy get it in parts (`moca.segmentation.pixel_loss`). In
    tests with ``test_cfg.mode`` 'slide', windows go through the network in batches, over images
    too, also of different sizes. Their logits are merged at the head's resolution, and reach that
    of the image for some rows at a time. In half precision both are done in float32, where mmseg
    enlarges logits in half precision.

    Fields of ``test_cfg``: see `SlideSettings`. Heads with a ``predict`` of their own, or of one
    channel, and the mode 'whole' are left to mmseg.

    Raises:
        UserError: if ``test_cfg`` has an unknown field, lacks one or contradicts itself.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if self._merges():
            self._settings()  # now, not at the first validation

    def test_step(self, data: Any) -> list[SegDataSample]:
        """Predict; unlike mmseg's, images of a batch can be of different sizes."""
        if (singles := one_by_one(data)) is None:
            return super().test_step(data)
        if self._merges():
            parts = [self.data_preprocessor(single, False) for single in singles]
            samples = [part['data_samples'][0] for part in parts]
            return self._slide([part['inputs'][0] for part in parts], samples)
        return [super(LeanEncoderDecoder, self).test_step(one)[0] for one in singles]

    def val_step(self, data: Any) -> list[SegDataSample]:
        """The same as `test_step`."""
        return self.test_step(data)

    def predict(
        self, inputs: Tensor, data_samples: list[SegDataSample] | None = None
    ) -> list[SegDataSample]:
        """Segment images.

        Args:
            inputs: ``[N, 3, H, W]``, normalized.
            data_samples: what says how each was padded and flipped and its original size.

        Returns:
            The samples, with ``pred_sem_seg`` ``[1, H, W]`` and, where ``keep_logits`` says so,
            ``seg_logits`` ``[classes, H, W]``, at the original size.
        """
        if self._merges():
            return self._slide(list(inputs), data_samples)
        samples = super().predict(inputs, data_samples)
        for sample in samples:  # mmseg's are of a floating type after a sigmoid
            sample.pred_sem_seg.data = sample.pred_sem_seg.data.long()
        return samples

    def slide_inference(self, inputs: Tensor, batch_img_metas: list[dict[str, Any]]) -> Tensor:
        """Mean logits of all windows, ``[N, classes, H, W]``, as mmseg's of the same name."""
        if not self._merges():
            return super().slide_inference(inputs, batch_img_metas)
        merged = inputs.new_empty(len(inputs), self.out_channels, *inputs.shape[2:])
        for target, grid in zip(merged, self._grids(list(inputs)), strict=True):
            for part, logits in self._merged(grid, inputs.shape[2:], (Output(), Output())):
                target[:, part] = logits
        return merged

    def _decode_head_forward_train(
        self, inputs: Sequence[Tensor], data_samples: list[SegDataSample]
    ) -> dict[str, Tensor]:
        losses = self._head_losses(self.decode_head, inputs, data_samples)
        return add_prefix(losses, 'decode')

    def _auxiliary_head_forward_train(
        self, inputs: Sequence[Tensor], data_samples: list[SegDataSample]
    ) -> dict[str, Tensor]:
        several = isinstance(self.auxiliary_head, nn.ModuleList)
        heads = self.auxiliary_head if several else [self.auxiliary_head]
        losses: dict[str, Tensor] = {}
        for number, head in enumerate(heads):
            found = self._head_losses(head, inputs, data_samples)
            losses |= add_prefix(found, f'aux_{number}' if several else 'aux')
        return losses

    def _head_losses(
        self, head: Any, inputs: Sequence[Tensor], data_samples: list[SegDataSample]
    ) -> dict[str, Tensor]:
        if not can_be_in_parts(head):
            return head.loss(inputs, data_samples, self.train_cfg)
        labels = torch.cat([sample.gt_sem_seg.data for sample in data_samples])
        return loss_in_parts(head, head.forward(inputs), labels)

    def _merges(self) -> bool:
        """Whether windows can be merged here: the head does no more than resize its logits."""
        head = type(self.decode_head)
        return (
            self.test_cfg.get('mode') == 'slide'
            and head.predict is BaseDecodeHead.predict
            and head.predict_by_feat is BaseDecodeHead.predict_by_feat
            and self.out_channels > 1
        )

    def _settings(self) -> SlideSettings:
        check_arguments(SlideSettings, self.test_cfg, 'model.test_cfg')
        for field in ('crop_size', 'stride'):
            if field not in self.test_cfg:
                raise UserError(f'model.test_cfg: mode=slide needs {field}=(height, width).')
        return SlideSettings(**self.test_cfg)

    def _axes(self, size: Sequence[int]) -> tuple[Axis, Axis]:
        settings = self._settings()
        rows, columns = zip(size, settings.crop_size, settings.stride, strict=True)
        return Axis.of(*rows), Axis.of(*columns)

    def _grids(self, images: Sequence[Tensor]) -> list[Tensor]:
        """Logits of the windows of each image ``[3, H, W]``, laid beside each other.

        Returns:
            ``[classes, windows down * h, windows across * w]`` each, float32.
        """
        axes = [self._axes(image.shape[1:]) for image in images]
        places: dict[tuple[int, int], list[tuple[int, int, int]]] = {}
        for number, (rows, columns) in enumerate(axes):
            of_size = places.setdefault((rows.window, columns.window), [])
            of_size += [(number, y, x) for y in rows.starts for x in columns.starts]
        logits: list[list[Tensor]] = [[] for _ in images]
        at_a_time = self._settings().at_a_time(images[0].device)
        for (height, width), of_size in places.items():
            for start in range(0, len(of_size), at_a_time):
                batch = of_size[start : start + at_a_time]
                crops = [images[i][:, y : y + height, x : x + width] for i, y, x in batch]
                found = self._forward(torch.stack(crops)).float()
                for (number, _, _), window in zip(batch, found, strict=True):
                    logits[number].append(window)
        return [
            torch.stack(windows)
            .unflatten(0, (len(rows.starts), len(columns.starts)))
            .permute(2, 0, 3, 1, 4)
            .flatten(3, 4)
            .flatten(1, 2)
            for windows, (rows, columns) in zip(logits, axes, strict=True)
        ]

    def _merged(self, grid: Tensor, size: Sequence[int], outputs: tuple[Output, Output]) -> Any:
        matrices = [
            merging_matrix(axis, cells // len(axis.starts), self.align_corners, output)
            for axis, cells, output in zip(self._axes(size), grid.shape[1:], outputs, strict=True)
        ]
        return merged_rows(grid, *matrices)

    def _slide(
        self, images: Sequence[Tensor], data_samples: list[SegDataSample] | None
    ) -> list[SegDataSample]:
        samples = data_samples or [SegDataSample() for _ in images]
        keep = self._settings().keep_logits
        for sample, image, grid in zip(samples, images, self._grids(images), strict=True):
            size = image.shape[1:]
            outputs = _outputs(sample.metainfo) if data_samples else (Output(), Output())
            parts, kept = [], []
            for _, logits in self._merged(grid, size, outputs):
                parts.append(logits.max(0, keepdim=True).indices)  # faster than argmax on a CPU
                if keep:
                    kept.append(logits)
            sample.set_data({'pred_sem_seg': PixelData(data=torch.cat(parts, 1))})
            if keep:
                sample.set_data({'seg_logits': PixelData(data=torch.cat(kept, 1))})
        return samples


def _outputs(about: Mapping[str, Any]) -> tuple[Output, Output]:
    """What mmseg's `postprocess_result` does to rows and to columns, from a sample's metainfo."""
    left, right, top, bottom = about.get('img_padding_size', about.get('padding_size', [0] * 4))
    flipped = about.get('flip_direction') if about.get('flip') else None
    height, width = about['ori_shape']
    return (
        Output(top, bottom, flipped == 'vertical', height),
        Output(left, right, flipped == 'horizontal', width),
    )


def one_by_one(data: Any) -> list[dict[str, Any]] | None:
    """The images of a test batch as batches of one; None where all are of one size.

    mmseg's preprocessor stacks a batch, which images of different sizes do not let it.
    """
    images = list(data['inputs']) if isinstance(data, Mapping) else []
    if len({image.shape for image in images}) <= 1:
        return None
    pairs = zip(images, data['data_samples'], strict=True)
    return [dict(inputs=[image], data_samples=[sample]) for image, sample in pairs]
