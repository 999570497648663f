"""A batch that a GPU has no memory for: how many images it has memory for."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.dist import get_world_size
from torch import Tensor

from moca.engine.wrapped import unwrapped
from moca.errors import UserError


def too_large(runner: Any, batch: dict[str, Any], accumulate: int) -> UserError:
    """What to say of a batch for which there was not enough memory.

    Halves of it, quarters and so on are tried until one fits, or the method refuses so few images.
    The run is over, so that it does not matter what these steps do to the model. Of several
    processes each would wait for the others, which had the memory: there nothing is tried.

    Args:
        runner: Of mmengine.
        batch: Tensors and lists of as many entries as images, as the loader gives them.
        accumulate: In how many batches a step comes.
    """
    images = _size(batch)
    said = (
        f'train_dataloader.batch_size={images}: there is not enough memory for a step of '
        f'{type(unwrapped(runner.model)).__name__} on {_device_text(runner.model)}.'
    )
    if get_world_size() > 1:
        return UserError(
            f'{said} Give half of it by --cfg-options train_dataloader.batch_size='
            f'{max(images // 2, 1)}, and twice the --accumulate for steps of as many images.'
        )
    fitting = images // 2
    try:
        while fitting and not _fits(runner, _cut(batch, images, fitting)):
            fitting //= 2
    except UserError as error:
        return UserError(f'{said} Of {fitting} at a time: {error}')
    if not fitting:
        return UserError(f'{said} Not even one image fits: give a smaller --arch or smaller views.')
    # the most of them that share the images of a step out evenly
    fitting = next(n for n in range(fitting, 0, -1) if accumulate * images % n == 0)
    parts = accumulate * images // fitting
    return UserError(
        f'{said} {fitting} at a time fit: give --cfg-options train_dataloader.batch_size={fitting}'
        f', and --accumulate {parts} for steps of as many images where the method takes them in '
        'parts.'
    )


def _fits(runner: Any, batch: dict[str, Any]) -> bool:
    """Whether two steps of two such batches each fit.

    Gradients stay from one part of a step to the next, and the optimizer's state comes with its
    first step: both lie beside the activations of the last part alone.

    Raises:
        UserError: The method refuses the batch.
    """
    method, wrapper = unwrapped(runner.model), runner.optim_wrapper
    if hasattr(method, 'part'):
        method.part = (0, 1)
    wrapper.zero_grad()
    wrapper._accumulative_counts, wrapper._inner_count, wrapper._max_counts = 2, 0, -1
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    try:
        for _ in range(4):
            runner.model.train_step(batch, optim_wrapper=wrapper)
    except torch.OutOfMemoryError:
        return False
    return True


def _size(batch: dict[str, Any]) -> int:
    return next(len(value) for value in batch.values() if isinstance(value, Tensor))


def _cut(batch: dict[str, Any], images: int, count: int) -> dict[str, Any]:
    """The first images of a batch."""
    return {
        key: value[:count] if isinstance(value, Tensor | list) and len(value) == images else value
        for key, value in batch.items()
    }


def _device_text(model: Any) -> str:
    device = next(model.parameters()).device
    if device.type != 'cuda':
        return f'this {device.type}'
    found = torch.cuda.get_device_properties(device)
    return f'{found.name} of {found.total_memory / 2**30:.0f} GiB'
