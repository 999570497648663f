"""The device that a user names, checked before anything is loaded."""

from __future__ import annotations

import torch

from moca.errors import UserError


def checked_device(device: str | torch.device | None) -> torch.device:
    """A device that tensors can be put on and fetched from.

    Args:
        device: Such as ``cpu`` or ``cuda:1``; None for a GPU if there is one, else the CPU.

    Raises:
        UserError: torch knows none of that name, or cannot use it on this machine.
    """
    named = ('cuda' if torch.cuda.is_available() else 'cpu') if device is None else device
    try:
        found = torch.device(named)
        torch.zeros(1, device=found).cpu()
    except (RuntimeError, AssertionError, TypeError) as error:  # without CUDA it is an assertion
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        why = why.split('. ')[0].rstrip('.')[:150]  # some list all that torch was built for
        raise UserError(
            f'device {named}: cannot be used here ({why}). Give cpu, or cuda:N of a GPU that torch '
            'sees.'
        ) from error
    return found
