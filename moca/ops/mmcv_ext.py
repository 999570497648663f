"""Stand-in for mmcv's compiled module `mmcv._ext`, on torch's and torchvision's own kernels.

Signatures, argument names and in-place outputs are those of mmcv 2.x's C++ operators
(mmcv/ops/csrc/pytorch/pybind.cpp), since mmcv's own Python functions are the callers.

Half precision is computed in fp32 and rounded at the end: torchvision has no bfloat16 kernels, no
half NMS on the CPU, and IoUs in half precision would decide ties by rounding.
"""

from functools import partial
from typing import Any, NoReturn

import torch
import torchvision  # noqa: F401  (registers torch.ops.torchvision)
from torch import Tensor

from moca.errors import UserError
from moca.ops.deformable import ms_deform_attn_backward, ms_deform_attn_forward  # noqa: F401
from moca.ops.focal import sigmoid_focal_loss_backward, sigmoid_focal_loss_forward  # noqa: F401
from moca.ops.rounding import compute_dtype

MAX_POOLING = 0
NOT_COMPILED = 'n/a (mmcv is not compiled; its operators run on torchvision)'


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Greedy non-maximum suppression.

    Args:
        boxes: `[N, 4]`, (x1, y1, x2, y2) in pixels.
        scores: `[N]`.
        iou_threshold: a box goes if its IoU with a better kept one is above this.
        offset: 0 or 1; a box is x2 - x1 + offset wide (1: corners are the last pixels inside).

    Returns:
        Indices of the kept boxes, best score first, `[K]` (int64). Of equal scores the earlier
        box counts as the better one.
    """
    dtype = compute_dtype(boxes, scores)
    corners = boxes.to(dtype)
    if offset:
        corners = torch.cat((corners[:, :2], corners[:, 2:] + offset), dim=1)
    return torch.ops.torchvision.nms(corners, scores.to(dtype), iou_threshold)


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Average-pool each region of `input` `[B, C, H, W]` into `output` `[N, C, h, w]`, in place.

    Args:
        input: feature map.
        rois: `[N, 5]`, (index in the batch, x1, y1, x2, y2) in pixels of the image.
        output: result, written in place.
        argmax_y: only for max pooling; untouched.
        argmax_x: only for max pooling; untouched.
        aligned_height: h.
        aligned_width: w.
        spatial_scale: pixels of the map per pixel of the image.
        sampling_ratio: samples along each side of a bin; 0 takes ceil(bin side).
        pool_mode: 1 averages the samples; 0 (their maximum) is refused.
        aligned: shift regions by half a pixel, so that pixel centers lie at .5.

    Raises:
        UserError: max pooling is asked for.
    """
    _refuse_max_pooling(pool_mode)
    dtype = compute_dtype(input)
    pooled = torch.ops.torchvision.roi_align(
        input.to(dtype),
        rois.to(dtype),
        spatial_scale,
        aligned_height,
        aligned_width,
        sampling_ratio,
        aligned,
    )
    output.copy_(pooled)


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Add the gradient of `roi_align_forward` w.r.t. its input to `grad_input` `[B, C, H, W]`.

    `grad_output` is `[N, C, h, w]`; the other arguments and the error are the forward's.
    """
    _refuse_max_pooling(pool_mode)
    dtype = compute_dtype(grad_output)
    grad = torch.ops.torchvision._roi_align_backward(
        grad_output.to(dtype),
        rois.to(dtype),
        spatial_scale,
        aligned_height,
        aligned_width,
        *grad_input.shape,
        sampling_ratio,
        aligned,
    )
    grad_input.add_(grad)


def get_compiler_version() -> str:
    """Return what `mmcv.utils.collect_env` reports as mmcv's compiler."""
    return NOT_COMPILED


def get_compiling_cuda_version() -> str:
    """Return what `mmcv.utils.collect_env` reports as mmcv's CUDA compiler."""
    return NOT_COMPILED


def _refuse_max_pooling(pool_mode: int) -> None:
    if pool_mode == MAX_POOLING:
        _raise_missing('roi_align with max pooling')


def _raise_missing(operator: str, *_: Any, **__: Any) -> NoReturn:
    raise UserError(
        f"mmcv's operator '{operator}' has no stand-in on torchvision (moca/ops has nms, average "
        'roi_align, ms_deform_attn and sigmoid_focal_loss). Compile mmcv, which takes a C++ '
        'compiler (and nvcc for the GPU): pip install --no-build-isolation --no-deps '
        '--no-cache-dir --force-reinstall '
        '--no-binary onedl-mmcv onedl-mmcv; or choose a model that does without the operator.'
    )


def __getattr__(name: str) -> 'partial[NoReturn]':
    # mmcv/ops/*.py asserts on import that every operator exists, so that a missing one can only be
    # reported when it is called. Private and dunder names are looked up by inspect, pickle, ...
    if name.startswith('_'):
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return partial(_raise_missing, name)
