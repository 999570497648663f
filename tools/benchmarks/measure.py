"""What a training step costs: bytes that it needs at a time, FLOPs, and a device's peak FLOP/s."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

_aten = torch.ops.aten

# TFLOP/s of dense products by a part of the GPU's name: bfloat16 and float16, TF32, plain fp32.
# From NVIDIA's data sheets, without sparsity. The first part that the name holds counts.
GPU_PEAKS: dict[str, tuple[float, float, float]] = {
    'B200': (2250, 1125, 75),
    'H200': (989, 494, 67),
    'H100 PCIe': (756, 378, 51),
    'H100': (989, 494, 67),
    'A100': (312, 156, 19.5),
    'L40S': (362, 183, 91.6),
    'L4': (121, 60, 30.3),
    'A40': (149.7, 74.8, 37.4),
    'RTX A6000': (154.8, 77.4, 38.7),
    'RTX 4090': (165.2, 82.6, 82.6),
    'RTX 3090': (71, 35.6, 35.6),
}


class PeakBytes(TorchDispatchMode):
    """Counts the bytes of all tensors made while it is active, and remembers the most at a time.

    A storage counts from the operator that makes it until its last tensor is gone. Tensors from
    before, such as weights, do not count, nor does scratch memory within an operator.

    Attributes:
        now: Bytes alive.
        peak: The most bytes alive at a time so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.peak = 0
        self._alive: dict[int, int] = {}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        given = {_storage(tensor)._cdata for tensor in _tensors((args, kwargs))}
        out = func(*args, **(kwargs or {}))
        for storage in map(_storage, _tensors(out)):
            key = storage._cdata
            if key not in given and key not in self._alive:
                self._alive[key] = storage.nbytes()
                self.now += storage.nbytes()
                weakref.finalize(storage, self._free, key)
        self.peak = max(self.peak, self.now)
        return out

    def _free(self, key: int) -> None:
        self.now -= self._alive.pop(key)


def take_turns(
    calls: Mapping[str, Callable[[int], object]], rounds: int, device: torch.device
) -> dict[str, list[float]]:
    """Seconds of each call in each round, after one round that is not timed.

    Args:
        calls: By name; each is given the number of the round, from 1 on.
        rounds: How many to time.
        device: Waited for before and after each call.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        # who comes first alternates
        order = list(calls.items())[:: -1 if number % 2 else 1]
        for name, call in order:
            _wait(device)
            start = time.perf_counter()
            call(number)
            _wait(device)
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def peak_bytes(call: Callable[[int], object], device: torch.device) -> int:
    """The most bytes that ``call(0)`` needs at a time beyond what was there before it.

    On a GPU as its allocator counts them, elsewhere by :class:`PeakBytes`.
    """
    if device.type == 'cuda':
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call(0)
        return torch.cuda.max_memory_allocated(device) - before
    with PeakBytes() as counter:
        call(0)
    return counter.peak


def step_flops(call: Callable[[int], object]) -> int:
    """Floating-point operations of the matrix products and convolutions of ``call(0)``.

    A multiplication and an addition are two. What an attention kernel computes once more in its
    backward pass is left out, gradient checkpointing's recomputation is not.
    """
    counter = FlopCounterMode(display=False, custom_mapping=_UNKNOWN_TO_TORCH)
    with counter:
        call(0)
    return counter.get_total_flops()


def peak_flops(device: torch.device, dtype: torch.dtype) -> float | None:
    """FLOP/s of large products: a GPU's by its data sheet, a CPU's measured; None if unknown."""
    if device.type == 'cpu':
        return _measured_peak(device, dtype)
    if device.type != 'cuda':
        return None
    return known_peak(torch.cuda.get_device_name(device), dtype)


def known_peak(name: str, dtype: torch.dtype) -> float | None:
    """FLOP/s of a GPU by its name; fp32 as `torch.set_float32_matmul_precision` has it."""
    plain = torch.get_float32_matmul_precision() == 'highest'
    column = (2 if plain else 1) if dtype == torch.float32 else 0
    return next((peaks[column] * 1e12 for part, peaks in GPU_PEAKS.items() if part in name), None)


def _measured_peak(device: torch.device, dtype: torch.dtype, size: int = 1024) -> float:
    """The best of several products of ``size`` x ``size`` matrices: FLOP/s."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(12):
        start = time.perf_counter()
        torch.mm(a, b)
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)


def _wait(device: torch.device) -> None:
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _storage(tensor: Tensor) -> torch.UntypedStorage:
    return tensor.untyped_storage()


def _product(added: Any, a: Any, b: Any, *args: Any, **kwargs: Any) -> int:
    return 2 * a[0] * a[1] * b[1]


def _attention(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _attention_backward(
    grad: Any, query: Any, key: Any, value: Any, *args: Any, **kwargs: Any
) -> int:
    return 2 * sdpa_flop_count(query, key, value)


# Kernels that torch's counter lacks, and backward passes in which it counts recomputation.
_UNKNOWN_TO_TORCH: dict[Any, Any] = {
    _aten.addmm_: _product,
    _aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    _aten._scaled_dot_product_flash_attention_backward: _attention_backward,
    _aten._scaled_dot_product_efficient_attention_backward: _attention_backward,
    _aten._scaled_dot_product_cudnn_attention_backward: _attention_backward,
}
