"""Images for the tests of pre-training configs."""

from pathlib import Path

import cv2
import numpy as np
import pytest


@pytest.fixture(scope='module')
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('images')
    random = np.random.default_rng(0)
    for number in range(10):
        image = random.integers(0, 256, (72, 96, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f'{number}.png'), image)
    return folder
