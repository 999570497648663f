"""How much memory a training step would need, without taking it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from mmengine.registry import MODELS
from torch._subclasses.fake_tensor import FakeTensorMode

from tools.benchmarks.measure import PeakBytes

_MEMINFO = Path('/proc/meminfo')


def backbone_bytes(backbone: dict[str, Any], batch: int, size: int, dtype: str) -> int:
    """The most bytes that a backbone needs at a time for a forward and a backward pass on a CPU.

    Counted on tensors without contents, so that it takes neither the memory nor the time.

    Args:
        backbone: config of a `PlainViT`.
        batch: images.
        size: their sides in pixels.
        dtype: ``float32``, or what to autocast to.
    """
    lower = getattr(torch, dtype)
    vit = MODELS.build(dict(backbone, init_cfg=None)).train()
    with FakeTensorMode() as mode:
        for module in vit.modules():
            for name, parameter in module.named_parameters(recurse=False):
                setattr(module, name, mode.from_tensor(parameter))
        images = torch.zeros(batch, 3, size, size)
        with PeakBytes() as memory:
            with torch.autocast('cpu', lower, enabled=lower != torch.float32):
                maps = [single for single in vit(images) if single.requires_grad]
            torch.autograd.backward(maps, [torch.zeros_like(single) for single in maps])
    return memory.peak


def free_bytes() -> int | None:
    """Bytes that programs can still take on this machine; None where the system does not say."""
    if not _MEMINFO.is_file():
        return None
    fields = dict(line.split(':') for line in _MEMINFO.read_text().splitlines())
    return int(fields['MemAvailable'].split()[0]) * 1024  # it says kB and means KiB
