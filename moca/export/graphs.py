"""What becomes a graph: modules from an image to arrays, with everything that a model needs.

Each takes ``image`` ``[N, 3, H, W]``, float32, RGB of 0 to 255, of one height and width, and
normalizes it itself.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moca.backbone import PlainViT
from moca.eomt.windows import windows_of
from moca.errors import UserError
from moca.export.backbone import fix_size
from moca.segmentation.encoder_decoder import LeanEncoderDecoder
from moca.segmentation.window_merge import Output, merging_matrix


class Graph(nn.Module):
    """A model of which a copy becomes a graph.

    Args:
        model: mmseg's, mmdet's, or a `PlainViT`; it is copied.
        size: height and width of the images in pixels.

    Attributes:
        outputs: names of what `forward` returns, in its order.
        dynamic: whether graphs take any number of images.
    """

    outputs: Sequence[str]
    dynamic: ClassVar[bool] = True
    mean: Tensor
    std: Tensor

    def __init__(self, model: Any, size: tuple[int, int]) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).cpu().float().eval().requires_grad_(False)
        self.size = size
        backbone = backbone_of(self.model)
        side = self.backbone_size()
        fix_size(backbone, side)
        mean, std, self.reversed = statistics(self.model)
        self.register_buffer('mean', mean.view(3, 1, 1))
        self.register_buffer('std', std.view(3, 1, 1))

    def backbone_size(self) -> tuple[int, int]:
        """Height and width of what the backbone gets."""
        return self.size

    def normalized(self, image: Tensor) -> Tensor:
        """The image as the model wants it."""
        return ((image.flip(1) if self.reversed else image) - self.mean) / self.std

    def inputs(self) -> tuple[Tensor, ...]:
        """Example inputs, of two images where their number is free."""
        return (torch.zeros(2 if self.dynamic else 1, 3, *self.size),)


def backbone_of(model: Any) -> PlainViT:
    """The `PlainViT` in a model.

    Raises:
        UserError: there is none, or several.
    """
    found = [module for module in model.modules() if isinstance(module, PlainViT)]
    if len(found) != 1:
        raise UserError(
            f'{type(model).__name__} has {len(found)} plain ViTs: models of one are exported.'
        )
    return found[0]


def statistics(model: Any) -> tuple[Tensor, Tensor, bool]:
    """Mean and deviation of pixels from 0 to 255, and whether channels are BGR for the model."""
    if isinstance(model, PlainViT):
        mean, std = (255 * torch.tensor(part) for part in (model.mean, model.std))
        return mean, std, False
    preprocessor = model.data_preprocessor
    # mm's images are BGR; `bgr_to_rgb` turns them
    turned = not preprocessor._channel_conversion
    if not preprocessor._enable_normalize:
        return torch.zeros(3), torch.ones(3), turned
    return preprocessor.mean.flatten().cpu(), preprocessor.std.flatten().cpu(), turned


class BackboneGraph(Graph):
    """Tokens after the final norm: ``patches`` ``[N, rows * columns, C]``, row by row, and before
    them ``prefix`` ``[N, P, C]`` (class, registers); of a ViT with windows ``map``
    ``[N, C, rows, columns]``.
    """

    def __init__(self, model: PlainViT, size: tuple[int, int]) -> None:
        super().__init__(model, size)
        backbone = self.model
        if backbone.window_size is not None:
            self.outputs = ('map',)
        else:
            self.outputs = ('patches', 'prefix') if backbone.num_prefix_tokens else ('patches',)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Encode images."""
        x = self.normalized(image)
        if self.model.window_size is not None:
            return (self.model(x)[-1],)
        tokens = self.model.tokens(x)
        found = {'patches': tokens.patches, 'prefix': tokens.prefix}
        return tuple(found[name] for name in self.outputs)


class SegmentorGraph(Graph):
    """``labels`` ``[N, H, W]``, int64, windows and all; or ``logits`` of one window.

    Args:
        model: a segmentor of mmseg, ours or theirs.
        size: of the images; for ``logits``, of a window.
        output: ``labels``, or ``logits`` ``[N, classes, h, w]`` at the head's resolution, for
            :mod:`moca.export.runtime`, which slides windows itself.

    Raises:
        UserError: windows of this head cannot slide inside a graph.
    """

    def __init__(self, model: Any, size: tuple[int, int], output: str = 'labels') -> None:
        self.merges = isinstance(model, LeanEncoderDecoder) and model.out_channels > 1
        slides = (model.test_cfg or {}).get('mode') == 'slide'
        self.axes: Any = None
        if slides and isinstance(model, LeanEncoderDecoder) and model._merges():
            self.axes = model._axes(size)
        elif slides and any(s > c for s, c in zip(size, model.test_cfg['crop_size'], strict=True)):
            raise UserError(
                f'--size {size[0]} {size[1]}: windows of {type(model.decode_head).__name__} do not '
                'slide inside a graph. Give --size of a window: '
                f'{" ".join(map(str, model.test_cfg["crop_size"]))}.'
            )
        self.window = tuple(axis.window for axis in self.axes) if self.axes else size
        super().__init__(model, size)
        self.outputs = (output,)
        if output == 'logits' and self.axes and any(len(axis.starts) > 1 for axis in self.axes):
            raise UserError(f'--size {size[0]} {size[1]}: logits are of one window; leave it out.')
        if self.axes:
            with torch.no_grad():
                cells = self.model._forward(torch.zeros(1, 3, *self.window)).shape[2:]
            rows, columns = (
                merging_matrix(axis, number, bool(self.model.align_corners), Output())
                for axis, number in zip(self.axes, cells, strict=True)
            )
            self.register_buffer('rows', rows)
            self.register_buffer('columns', columns)

    rows: Tensor
    columns: Tensor

    def backbone_size(self) -> tuple[int, int]:
        """Height and width of a window."""
        return self.window[0], self.window[1]

    def forward(self, image: Tensor) -> Tensor:
        """Segment images."""
        x = self.normalized(image)
        if self.outputs[0] == 'logits':
            return self.model._forward(x) if self.merges else self.whole(x)
        scores = self.slid(x) if self.axes else self.whole(x)
        if scores.shape[1] > 1:
            return scores.argmax(1)
        return (scores[:, 0].sigmoid() > self.model.decode_head.threshold).long()

    def whole(self, x: Tensor) -> Tensor:
        """Logits ``[N, classes, H, W]`` of images without windows."""
        about = dict(img_shape=self.size, ori_shape=self.size, pad_shape=self.size)
        return self.model.encode_decode(x, [about])

    def slid(self, x: Tensor) -> Tensor:
        """Mean logits of all windows, ``[N, classes, H, W]``."""
        rows, columns = self.axes
        (height, width), number = self.window, x.shape[0]
        crops = [
            x[:, :, y : y + height, at : at + width] for y in rows.starts for at in columns.starts
        ]
        if len(crops) == 1:
            grid = self.model._forward(crops[0])
        else:
            logits = self.model._forward(torch.stack(crops, 1).flatten(0, 1))
            parts = (number, len(rows.starts), len(columns.starts), *logits.shape[1:])
            grid = logits.reshape(parts).permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
        return self.rows @ grid @ self.columns.T


class QueriedSegmentorGraph(Graph):
    """``labels`` ``[N, H, W]`` of EoMT, windows along the long side and all, or its ``logits``.

    Args:
        model: a `MaskTransformerSegmentor`.
        size: of the images, whose short side is that of a window.
        output: ``labels``, or ``logits``: scores ``[N, classes, H, W]``.
    """

    def __init__(self, model: Any, size: tuple[int, int], output: str = 'labels') -> None:
        self.windows = windows_of(size, model.size)
        super().__init__(model, size)
        self.outputs = (output,)
        if output == 'logits' and len(self.windows) > 1:
            raise UserError(f'--size {size[0]} {size[1]}: logits are of one window; leave it out.')
        count = torch.zeros(size)
        for place in self.windows:
            count[place] += 1
        self.register_buffer('count', count)

    count: Tensor

    def backbone_size(self) -> tuple[int, int]:
        """Height and width of a window."""
        return self.model.size, self.model.size

    def forward(self, image: Tensor) -> Tensor:
        """Segment images."""
        x, number = self.normalized(image), len(self.windows)
        if number == 1:
            scores = self.model.encode_decode(x, [])
        else:
            crops = torch.stack([x[:, :, rows, columns] for rows, columns in self.windows])
            parts = self.model.encode_decode(crops.flatten(0, 1), [])
            parts = parts.reshape(number, x.shape[0], *parts.shape[1:])
            placed = [
                F.pad(part, self._around(*place))
                for part, place in zip(parts.unbind(), self.windows, strict=True)
            ]
            scores = torch.stack(placed).sum(0) / self.count
        return scores if self.outputs[0] == 'logits' else scores.argmax(1)

    def _around(self, rows: slice, columns: slice) -> list[int]:
        height, width = self.size
        return [columns.start, width - columns.stop, rows.start, height - rows.stop]


class DepthGraph(Graph):
    """``depth`` ``[N, H, W]`` in meters of a `CenteredDepthEstimator`."""

    outputs = ('depth',)

    def backbone_size(self) -> tuple[int, int]:
        """Height and width in whole patches."""
        patch = backbone_of(self.model).patch_size
        return self.size[0] + -self.size[0] % patch, self.size[1] + -self.size[1] % patch

    def forward(self, image: Tensor) -> Tensor:
        """Estimate depth."""
        return self.model.inference(self.normalized(image))[:, 0]


class QueriedDetectorGraph(Graph):
    """What the queries of EoMT say: ``masks`` ``[N, Q, h, w]`` and ``classes`` ``[N, Q, C + 1]``.

    Logits both, the last class being "no object"; what is made of them is a dozen lines of numpy.
    """

    outputs = ('masks', 'classes')

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Predict masks and classes."""
        found = self.model.network(self.normalized(image))
        return found.masks[-1], found.classes[-1]
