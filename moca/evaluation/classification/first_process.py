"""Statistics of batch norm as the published scripts have them at test: the first process's."""

from __future__ import annotations

from typing import Any

from mmengine.dist import broadcast, get_world_size
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from moca.engine.wrapped import unwrapped


@HOOKS.register_module()
class BuffersOfFirst(Hook):
    """Gives every process the first one's running statistics before validation.

    In training each process normalizes by its own batch. torch's DDP, by which MAE trains, sends
    the first process's buffers to the others in every forward pass, of which only those of testing
    matter: mmengine tests without it.
    """

    def before_val_epoch(self, runner: Any) -> None:
        """Send the buffers of the head."""
        if get_world_size() == 1:
            return
        model = unwrapped(runner.model)
        for buffer in model.head.buffers():
            broadcast(buffer, src=0)
