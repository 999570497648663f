"""A training step of MOCA as one would first write it, around the plain losses."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from moca.pretrain.moca.draws import Draws
from moca.pretrain.moca.plain import PlainMOCA


class PlainStep:
    """The whole training step around it: autocast, gradient clipping, torch's default AdamW.

    Args:
        model: The losses.
        groups: Of parameters, as `torch.optim.AdamW` takes them.
        settings: Of `torch.optim.AdamW`, such as ``betas``.
        max_norm: Of the gradient; None does not clip.
        dtype: Of autocast; float32 is none.
    """

    def __init__(
        self,
        model: PlainMOCA,
        groups: list[dict[str, Any]],
        settings: dict[str, Any],
        max_norm: float | None,
        dtype: torch.dtype,
    ) -> None:
        self.model, self.max_norm, self.dtype = model, max_norm, dtype
        self.optimizer = torch.optim.AdamW(groups, **settings)
        self.device = next(model.parameters()).device.type
        self.scaler = torch.amp.GradScaler(self.device, enabled=dtype is torch.float16)

    def __call__(self, view1: Tensor, view2: Tensor, draws: Draws) -> dict[str, Tensor]:
        """Take one step; returns the losses."""
        enabled = self.dtype is not torch.float32
        with torch.autocast(self.device, self.dtype if enabled else None, enabled=enabled):
            losses = self.model(view1, view2, draws)
        self.scaler.scale(losses['loss']).backward()
        if self.max_norm is not None:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.max_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        return losses
