"""Images of a detection data set that cannot be loaded, or are of another size than annotated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mmdet.datasets import CocoDataset
from mmengine.registry import DefaultScope

from moca.detection import LoadReadableImage
from moca.errors import UserError
from tests.configs.helpers import write_coco

TRAIN = 'annotations/instances_train2017.json'


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr('moca.images.loading.print_log', lambda text, *_, **__: lines.append(text))
    return lines


class TestImages:
    def dataset(self, root: Path, test_mode: bool = False) -> Any:
        with DefaultScope.overwrite_default_scope('mmdet'):
            return CocoDataset(
                data_root=str(root),
                ann_file=TRAIN,
                data_prefix=dict(img='train2017'),
                test_mode=test_mode,
                pipeline=[dict(type='LoadReadableImage', skip=not test_mode)],
            )

    def test_training_takes_another_and_says_so_once(
        self, tmp_path: Path, logged: list[str]
    ) -> None:
        root = write_coco(tmp_path)
        broken = root / 'train2017/000000000002.jpg'
        broken.write_bytes(b'no image')
        dataset = self.dataset(root)
        np.random.seed(0)
        assert all(dataset[2]['img_id'] != 2 for _ in range(5))
        assert dataset[1]['img_id'] == 1
        assert len(logged) == 1
        assert str(broken) in logged[0]

    def test_evaluation_stops(self, tmp_path: Path) -> None:
        root = write_coco(tmp_path)
        (root / 'train2017/000000000002.jpg').write_bytes(b'no image')
        with pytest.raises(UserError, match=r'000000000002\.jpg: cannot be decoded'):
            self.dataset(root, test_mode=True)[2]

    @pytest.mark.parametrize('test_mode', [False, True])
    def test_another_size_than_annotated(self, tmp_path: Path, test_mode: bool) -> None:
        root = write_coco(tmp_path)
        cv2.imwrite(str(root / 'train2017/000000000002.jpg'), np.zeros((128, 96, 3), np.uint8))
        with pytest.raises(UserError, match=r'0002\.jpg: \(128, 96\) pixels.*\(96, 128\)'):
            self.dataset(root, test_mode)[2]

    def test_intact_images_are_mmcvs(self, tmp_path: Path) -> None:
        root = write_coco(tmp_path)
        path = str(root / 'train2017/000000000001.jpg')
        results = LoadReadableImage()(dict(img_path=path, height=96, width=128))
        assert np.array_equal(results['img'], cv2.imread(path))
