"""mmengine's histories of logged values, no longer than what is logged of them."""

from __future__ import annotations

from typing import Any

from mmengine.logging import HistoryBuffer


def cap_histories(runner: Any, mode: str, batches: int) -> None:
    """Let the message hub forget values that no line of the log looks at any more.

    mmengine keeps a million of each and copies all of them at every step to append one: 4 ms a step
    after 125,000 steps, and 28 MB in every checkpoint. What is logged stays the same; a history
    whose log asks for all of it (``window_size='global'``, or a statistic without a window) is
    left alone.

    Args:
        runner: With a message hub and a log processor.
        mode: Whose histories: ``'train'``, ``'val'`` or ``'test'``.
        batches: In an epoch, over which times of validation are averaged.
    """
    for key, history in runner.message_hub.log_scalars.items():
        if not key.startswith(f'{mode}/'):
            continue
        length = _needed(runner.log_processor, key.removeprefix(f'{mode}/'), mode, batches)
        if length is not None and history.max_length > length:
            values, counts = history.data
            runner.message_hub.log_scalars[key] = HistoryBuffer(
                values[-length:], counts[-length:], max_length=length
            )


def _needed(processor: Any, name: str, mode: str, batches: int) -> int | None:
    """How many values of a name the log looks back at; None for all."""
    epoch = batches + 1  # mmengine asks for one more than there are
    lengths = [1, processor.window_size, 1 if mode == 'train' else epoch]
    for entry in processor.custom_cfg:
        if entry['data_src'] != name or entry.get('method_name') == 'current':
            continue
        window = entry.get('window_size')
        if window == 'epoch':
            window = epoch
        if not isinstance(window, int):
            return None
        lengths.append(window)
    return max(lengths)
