"""The model itself, within what distributed training wraps around it."""

from __future__ import annotations

from typing import Any

from mmengine.model import is_model_wrapper


def unwrapped(model: Any) -> Any:
    """The module within a wrapper for several processes, such as DDP; any other model as it is."""
    return model.module if is_model_wrapper(model) else model
