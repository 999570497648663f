"""The next batch travels to the GPU while a step is computed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

Batch = dict[str, Any]


class Prefetched(Iterator[Batch]):
    """The batches of a loader, of which a GPU gets the next one ahead of time.

    Call :meth:`ahead` when a step has been launched: the images of the next batch are then copied
    on a stream of their own, beside the step's kernels (which needs ``pin_memory=True``: copies
    from other memory make the host wait). On a CPU nothing is taken ahead of time, and batches
    pass as they are.

    Args:
        batches: Of a data loader.
        device: Where the model is.
    """

    def __init__(self, batches: Iterator[Batch], device: torch.device) -> None:
        self._batches, self._device = batches, device
        self._stream = torch.cuda.Stream(device) if device.type == 'cuda' else None
        self._next: Batch | None = None

    def __next__(self) -> Batch:
        batch, self._next = self._next, None
        if batch is None:
            batch = self._take()
        if self._stream is not None:
            step = torch.cuda.current_stream(self._device)
            step.wait_stream(self._stream)
            for value in filter(is_images, batch.values() if isinstance(batch, dict) else ()):
                # made on another stream than reads it: its memory is not to be given away before
                # that one is through with it
                value.record_stream(step)
        return batch

    def ahead(self) -> None:
        """Begin to copy the next batch, if there is one and it goes to a GPU."""
        if self._stream is not None and self._next is None:
            with suppress(StopIteration):  # which the next step will meet
                self._next = self._take()

    def _take(self) -> Batch:
        batch = next(self._batches)
        if self._stream is None or not isinstance(batch, dict):
            return batch
        with torch.cuda.stream(self._stream):
            return {
                key: value.to(self._device, non_blocking=True) if is_images(value) else value
                for key, value in batch.items()
            }


def is_images(value: object) -> bool:
    """Whether it is a tensor of images; indices stay on the CPU, where hooks read them."""
    return isinstance(value, Tensor) and value.ndim == 4
