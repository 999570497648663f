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

    Does nothing in a run of one process. Source: detectron2's ``train.ddp.fp16_compression``, which
    ViTDet's recipes turn on.
    """

    def before_train(self, runner: Any) -> None:
        """Register torch's hook of that."""
        if isinstance(runner.model, DistributedDataParallel):
            runner.model.register_comm_hook(None, fp16_compress_hook)
            runner.logger.info('Gradients are shared in fp16.')
