"""How fast training images come out of tar shards, beside the same images as files."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from moca.engine.epoch_order import Draw
from moca.errors import UserError
from moca.pretrain.data.dataset import UnlabeledImages
from moca.pretrain.data.shards.writer import write_shards
from moca.pretrain.data.views import AugmentedViews
from tools.benchmarks.views import BYOL_VIEWS, make_images

# Images in a row from one of the two before the other's turn, so that both meet the same machine.
_TURN = 20
_SHARDS = 4  # at least, into which the images are packed


@dataclass(frozen=True)
class ShardSpeed:
    """Of a folder and of shards of it, in this order.

    Attributes:
        images: How many there are.
        shards: In how many tars.
        samples: Of each that were timed.
        views: Pairs of views a second of CPU time, from the file to tensors.
        reading: Seconds of wall time to read the bytes of an image.
        opening: Seconds of wall time until the data set is ready.
    """

    images: int
    shards: int
    samples: int
    views: tuple[float, float]
    reading: tuple[float, float]
    opening: tuple[float, float]

    @property
    def ratio(self) -> float:
        """How many times as fast as files."""
        return self.views[1] / self.views[0]


def measure_shards(data_root: str | Path | None, seconds: float, size: int) -> ShardSpeed:
    """Make views of images in a folder and of the same in shards, in one thread, in turn.

    The shards are written to a temporary folder. What is read comes from the page cache once each
    image has had its turn.

    Args:
        data_root: A folder of images; None makes 40 JPEGs of 500 x 375 pixels.
        seconds: CPU time to spend on both together.
        size: Side of the views in pixels.

    Raises:
        UserError: The folder is missing or has no images, or ``seconds`` is not above 0.
    """
    if seconds <= 0:
        raise UserError(f'--seconds is {seconds:g}; it must be above 0.')
    with tempfile.TemporaryDirectory() as scratch:
        if data_root is None:
            data_root = Path(scratch, 'images')
            data_root.mkdir()
            make_images(data_root)
        shards = Path(scratch, 'shards')
        total = sum(path.stat().st_size for path in Path(data_root).rglob('*') if path.is_file())
        written = write_shards(
            Path(data_root), shards, max(total // _SHARDS, 1000), lambda items, *_: items
        )
        return _measure((str(data_root), str(shards)), written.shards, seconds, size)


def _measure(roots: tuple[str, str], shards: int, seconds: float, size: int) -> ShardSpeed:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    opening, datasets = [], []
    for root in roots:
        start = time.perf_counter()
        datasets.append(UnlabeledImages(root, AugmentedViews(BYOL_VIEWS, size)))
        opening.append(time.perf_counter() - start)
    count = len(datasets[0])
    order = np.random.default_rng(0).permutation(count).tolist()
    spent, read = np.zeros(2), np.zeros(2)
    turns = 0
    while spent.sum() < seconds or turns < 2:
        part = [order[(turns * _TURN + step) % count] for step in range(_TURN)]
        # who comes first alternates; the first turn is not timed
        for number in (0, 1) if turns % 2 else (1, 0):
            made, taken = _take_turn(datasets[number], part, turns)
            if turns:
                spent[number] += made
                read[number] += taken
        turns += 1
    samples = (turns - 1) * _TURN
    views, reading = samples / spent, read / samples
    return ShardSpeed(
        images=count,
        shards=shards,
        samples=samples,
        views=(float(views[0]), float(views[1])),
        reading=(float(reading[0]), float(reading[1])),
        opening=(opening[0], opening[1]),
    )


def _take_turn(dataset: UnlabeledImages, part: list[int], turn: int) -> tuple[float, float]:
    """CPU seconds to make the views of some images, and seconds to read their bytes."""
    start = time.process_time()
    for index in part:
        dataset[Draw(index, turn)]
    made, start = time.process_time() - start, time.perf_counter()
    for index in part:
        dataset.images.read(index)
    return made, time.perf_counter() - start
