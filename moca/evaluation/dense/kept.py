"""Predictions of some images that a run without training keeps, to be looked at."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from moca.images.files import evenly_spread
from moca.records.whole_files import write_atomically

FOLDER = 'predictions'
"""In the work dir."""


class KeptPredictions:
    """Writes the label maps of some images, which come in order.

    Args:
        work_dir: Of the run.
        total: How many images there are.
        count: How many are kept, evenly spread; 0 for none.
    """

    def __init__(self, work_dir: Path, total: int, count: int) -> None:
        self.folder = work_dir / FOLDER
        self.places = set(evenly_spread(total, count)) if count > 0 else set()
        self.seen = 0

    def add(self, maps: Tensor) -> None:
        """Take the next images' label maps ``[B, H, W]``, numbers of classes below 256."""
        for labels in maps:
            if self.seen in self.places:
                content = cv2.imencode('.png', labels.cpu().numpy().astype(np.uint8))[1]
                write_atomically(self.folder / f'{self.seen:06d}.png', content.tobytes())
            self.seen += 1
