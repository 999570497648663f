"""Sharing gradients among processes in half precision."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook
from torch.nn.parallel import DistributedDataParallel


@HOOKS.register_module()
class HalfPrecisionGradients(Hook):
    """Halves what DistributedDataParallel sends: gradients are averaged in fp16.

    Source: detectron2's ``train.ddp.fp16_compression``, which ViTDet's recipes turn on. As there,
    it goes with the scaled loss of float16; without a scale, in bfloat16 and in full precision,
    small gradients would vanish in fp16, and this does nothing.
    """

    def before_train(self, runner: Any) -> None:
        """Register torch's hook of that."""
        scaler = getattr(runner.optim_wrapper, 'scaler', None)
        if scaler is None or not scaler.is_enabled():
            return
        if isinstance(runner.model, DistributedDataParallel):
            runner.model.register_comm_hook(None, fp16_compress_hook)
            runner.logger.info('Gradients are shared in fp16.')
