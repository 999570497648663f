"""Reading the progress of a run from the log that mmengine writes."""

from __future__ import annotations

import re
from pathlib import Path

# 'Iter(train) [ 50/180] ... loss: 1.2345' as mmengine's LoggerHook writes it.
_ITERATION = re.compile(r'Iter\(train\) +\[ *(\d+)/(\d+)\].*?\bloss: ([\d.]+|nan|inf)')


def tail(path: Path, size: int) -> str:
    """The last ``size`` bytes of a file; nothing of one that is not there."""
    try:
        with path.open('rb') as file:
            file.seek(max(0, path.stat().st_size - size))
            return file.read().decode(errors='replace')
    except OSError:
        return ''


def last_iteration(log: Path) -> tuple[int, int, str] | None:
    """Steps done, steps in all and the loss, of the last line that tells; None if none does."""
    found = _ITERATION.findall(tail(log, 20_000))
    if not found:
        return None
    done, total, loss = found[-1]
    return int(done), int(total), loss


def losses(log: Path) -> list[float]:
    """The training losses that a log names, in order."""
    return [float(loss) for _, _, loss in _ITERATION.findall(log.read_text(errors='replace'))]
