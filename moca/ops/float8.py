"""Linear layers whose products are of 8-bit numbers (FP8), for networks that are not trained.

GPUs from compute capability 8.9 on (Ada, Hopper and later) multiply FP8 matrices at up to twice the
rate of bfloat16. The numbers are e4m3 (arXiv 2209.05433): 3 bits of mantissa, so that rounding
changes a number by 1/16 of it at most, or by 2**-10 below 2**-6, and nothing above 448. A tensor is
therefore divided by a scale that takes its largest number there. Sums are of fp32.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moca.errors import UserError

E4M3 = torch.float8_e4m3fn
MULTIPLE = 16
"""Of which inputs and outputs of a layer have to be a multiple, for cuBLAS."""

_CAPABILITY = (8, 9)  # the first with FP8: https://docs.nvidia.com/cuda/cublas, cublasLtMatmul
_LEAST = 1e-12  # for a tensor of zeros; ours


def check_float8(option: str) -> None:
    """Verify that this machine's GPU multiplies FP8 matrices.

    Args:
        option: What asks for it, for messages.

    Raises:
        UserError: It does not, or there is none.
    """
    if torch.cuda.is_available() and not torch.version.hip:
        if torch.cuda.get_device_capability() >= _CAPABILITY:
            return
        major, minor = torch.cuda.get_device_capability()
        found = f'{torch.cuda.get_device_name()} has {major}.{minor}'
    else:
        found = 'there is no NVIDIA GPU'
    raise UserError(
        f'{option}: products in FP8 need a GPU of compute capability 8.9 (Ada, Hopper or later); '
        f'{found}. Leave {option} out.'
    )


def quantized(values: Tensor) -> tuple[Tensor, Tensor]:
    """Round a tensor to e4m3.

    One scale for the tensor, as every GPU with FP8 has it: numbers down to 1/28672 of the largest
    keep their three bits, so that scales of rows would gain little.

    Args:
        values: Of any shape and floating type.

    Returns:
        The rounded quotients, and the scale by which they were divided, a single fp32 number.
    """
    scale = values.abs().amax().float().clamp(min=_LEAST) / torch.finfo(E4M3).max
    return (values / scale).to(E4M3), scale


def emulated_product(
    a: Tensor, b: Tensor, scales: tuple[Tensor, Tensor], bias: Tensor | None, dtype: torch.dtype
) -> Tensor:
    """What `scaled_product` computes, in fp32 and by plain operators, from the same arguments."""
    product = F.linear(a.float() * scales[0], b.float() * scales[1])
    return (product if bias is None else product + bias.to(dtype)).to(dtype)


def scaled_product(
    a: Tensor, b: Tensor, scales: tuple[Tensor, Tensor], bias: Tensor | None, dtype: torch.dtype
) -> Tensor:
    """Multiply two e4m3 matrices in hardware.

    Args:
        a: ``[M, K]``, e4m3.
        b: ``[N, K]``, e4m3; K and N are multiples of `MULTIPLE`.
        scales: Of both.
        bias: ``[N]``, rounded to ``dtype``.
        dtype: Of the result, bfloat16 or float16.

    Returns:
        ``(scales[0] * a) @ (scales[1] * b).T + bias``, ``[M, N]``.
    """
    product: Tensor = torch._scaled_mm(
        *(a, b.T, scales[0], scales[1]),
        bias=None if bias is None else bias.to(dtype),
        out_dtype=dtype,
        # sums of some 14 bits, as torchao's forward passes have them; e4m3 has 4
        use_fast_accum=True,
    )
    return product


def float8_linear(x: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """`F.linear` by FP8 products; on devices other than NVIDIA's GPUs they are emulated.

    Args:
        x: ``[..., K]``.
        weight: ``[N, K]``.
        bias: ``[N]`` or None.
        dtype: Of the result ``[..., N]``, bfloat16 or float16.
    """
    rows, scale = quantized(x.flatten(0, -2))
    columns, factor = quantized(weight)
    product = scaled_product if x.is_cuda else emulated_product
    return product(rows, columns, (scale, factor), bias, dtype).unflatten(0, x.shape[:-1])


class Float8Linear(nn.Linear):
    """A linear layer that computes in FP8 where it is switched on and nothing is differentiated.

    Weights stay as they are, with their names and type. They are rounded anew at each call: they
    are called once for each time that they move, autocast would round them as often, and no copy
    can be out of date. Without autocast the layer is a plain one.

    Attributes:
        on: Whether to.
    """

    on = False

    @classmethod
    def of(cls, linear: nn.Linear) -> Float8Linear:
        """A layer with the very parameters of another one."""
        with torch.device('meta'):
            made = cls(linear.in_features, linear.out_features, bias=False)
        made.weight, made.bias = linear.weight, linear.bias
        return made.train(linear.training)

    def forward(self, input: Tensor) -> Tensor:
        """Multiply ``[..., in_features]``."""
        kind = input.device.type
        if not self.on or torch.is_grad_enabled() or not torch.is_autocast_enabled(kind):
            return super().forward(input)
        return float8_linear(input, self.weight, self.bias, torch.get_autocast_dtype(kind))


def fits_float8(module: nn.Module) -> bool:
    """Whether `Float8Linear` can take the place of a module."""
    return (
        type(module) is nn.Linear
        and module.in_features % MULTIPLE == 0
        and module.out_features % MULTIPLE == 0
    )
