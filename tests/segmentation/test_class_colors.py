"""Colors of classes: the data set's own, and others where it has none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mmseg.datasets import BaseSegDataset, CityscapesDataset

from moca.figures import distinct_colors
from moca.segmentation import class_colors

ROAD, CAR = [128, 64, 128], [0, 0, 142]  # of Cityscapes


def palette(cls: type = BaseSegDataset, **metainfo: Any) -> list[list[int]]:
    built = cls(data_prefix=dict(img_path='x'), metainfo=metainfo, lazy_init=True)
    return [list(color) for color in built.metainfo['palette']]


@pytest.mark.parametrize('count', [1, 2, 20])
def test_classes_without_colors_are_told_apart(count: int) -> None:
    class_colors.install()  # a second time
    state = np.random.get_state()[1].tolist()
    found = palette(classes=tuple(map(str, range(count))))
    assert found == [list(color) for color in distinct_colors(count)]
    assert all(isinstance(value, int) for color in found for value in color)
    assert np.random.get_state()[1].tolist() == state


def test_own_colors_stay() -> None:
    assert palette(classes=('a', 'b'), palette=[[1, 2, 3], [4, 5, 6]]) == [[1, 2, 3], [4, 5, 6]]
    assert palette(CityscapesDataset)[0] == ROAD
    assert palette(CityscapesDataset, classes=('car', 'road')) == [CAR, ROAD]
    with pytest.raises(ValueError, match='palette does not match'):
        palette(classes=('a', 'b'), palette=[[1, 2, 3]])
