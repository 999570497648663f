"""Deformable attention over several maps (Deformable DETR, arXiv 2010.04159, section 4.1).

On torch's `grid_sample`, by the function that mmcv itself takes on a CPU. mmcv calls what is here
on a GPU, where it would call its kernels.
"""

import torch
from torch import Tensor

from moca.ops.rounding import compute_dtype


def ms_deform_attn_forward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Weighted sums of bilinear samples, `[B, queries, heads * C]`.

    Args:
        value: `[B, keys, heads, C]`, the pixels of all maps one after the other.
        value_spatial_shapes: `[levels, 2]`, (height, width) of each map.
        value_level_start_index: follows from the shapes; not needed.
        sampling_locations: `[B, queries, heads, levels, points, 2]`, (x, y) as shares of a map's
            sides; beyond the maps there are zeros.
        attention_weights: `[B, queries, heads, levels, points]`.
        im2col_step: how many images a kernel takes at a time; not needed.
    """
    dtype = compute_dtype(value, sampling_locations, attention_weights)
    output = _attend(
        value.to(dtype),
        value_spatial_shapes,
        sampling_locations.to(dtype),
        attention_weights.to(dtype),
    )
    return output.to(value.dtype)


def ms_deform_attn_backward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Add the gradients of `ms_deform_attn_forward` to the last three tensors, in place.

    `grad_output` is `[B, queries, heads * C]`; the others have the shapes of what they are
    gradients of. The samples are taken again, so that none are kept from the forward pass.
    """
    dtype = compute_dtype(value, sampling_locations, attention_weights)
    inputs = [
        tensor.detach().to(dtype).requires_grad_()
        for tensor in (value, sampling_locations, attention_weights)
    ]
    with torch.enable_grad():
        output = _attend(inputs[0], value_spatial_shapes, inputs[1], inputs[2])
    gradients = torch.autograd.grad(output, inputs, grad_output.to(dtype))
    for target, gradient in zip(
        (grad_value, grad_sampling_loc, grad_attn_weight), gradients, strict=True
    ):
        target.add_(gradient)


def _attend(value: Tensor, shapes: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    # late: mmcv's module asks for this one as it is imported
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    # as numbers at once: a tensor on a GPU would be read one number after the other
    return multi_scale_deformable_attn_pytorch(value, shapes.tolist(), locations, weights)
