"""Sets that come in one file, as CIFAR does, serve training as folders do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from moca.evaluation.classification import dataset as module
from moca.evaluation.classification.dataset import LabeledImages
from moca.evaluation.labeled import Labeled


def read(root: str | Path, split: str, field: str) -> Labeled:
    """Images whose pixels are their numbers: 20 of train, 6 of test, of two classes."""
    count, first = {'train': (20, 0), 'test': (6, 100)}[split]
    numbers = np.arange(first, first + count, dtype=np.uint8)
    pixels = np.broadcast_to(numbers[:, None, None, None], (count, 8, 8, 3)).copy()
    paths = np.array([f'{split}/{number}'.encode() for number in numbers])
    return Labeled(paths, np.arange(count) % 2, ('a', 'b'), split, pixels)


def test_held_out_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, 'read_image_set', read)
    train = LabeledImages('x', size=8, held_out=0.1)
    test = LabeledImages('x', 'test', size=8, held_out=0.1)
    assert [int(train[i]['inputs'][0, 0, 0]) for i in range(len(train))] == [*range(18)]
    shown = [int(test[i]['inputs'][0, 0, 0]) for i in range(len(test))]
    assert shown == [100, 101, 102, 103, 104, 105, 18, 19]
    assert test.held_out.tolist() == [False] * 6 + [True] * 2
    assert [test[i]['label'] for i in (6, 7)] == [0, 1]
