"""What the COCO recipes make of an image before it is trained on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.registry import TRANSFORMS, init_default_scope

from tests.detection.test_recipes import read


def test_multi_scale_and_crop() -> None:
    """Short sides of 480 to 800; crops of 384 to 600 pixels before that for about half of them."""
    init_default_scope('mmdet')
    steps = [dict(step) for step in read('mask-rcnn_1x').train_pipeline[2:-1]]
    augment = Compose([TRANSFORMS.build(step) for step in steps])
    np.random.seed(0)
    sides, shapes = set(), set()
    for _ in range(60):
        results = augment(image(480, 640))
        height, width = results['img_shape']
        sides.add(min(height, width))
        assert max(height, width) <= 1333
        assert results['gt_masks'].masks.shape[1:] == (height, width)
        shapes.add(round(width / height, 2))
    allowed = set(range(480, 801, 32))
    assert len(sides & allowed) > 6
    assert {s for s in sides if min(abs(s - a) for a in allowed) > 1} == set()
    assert len(shapes) > 10  # 4 : 3 unless cropped


def test_large_scale_jitter() -> None:
    init_default_scope('mmdet')
    steps = [dict(step) for step in read('vitdet_mask-rcnn').train_pipeline[2:-1]]
    jitter = Compose([TRANSFORMS.build(step) for step in steps])
    np.random.seed(0)
    longest = [max(jitter(image(96, 128))['img_shape']) for _ in range(60)]
    assert max(longest) == 1024  # cropped; smaller ones are padded by the preprocessor
    assert min(longest) < 300
    assert read('vitdet_mask-rcnn').model.data_preprocessor.pad_size_divisor == 1024


@pytest.mark.parametrize('name', ['vitdet_mask-rcnn', 'mask-rcnn_1x'])
def test_a_crop_without_an_object_is_trained_on(name: str) -> None:
    """As detectron2 and mmdet 2 do: a batch may hold background alone."""
    init_default_scope('mmdet')
    augment = Compose([TRANSFORMS.build(dict(step)) for step in read(name).train_pipeline[2:-1]])
    np.random.seed(0)
    # an object of 4 x 4 pixels in the middle, which most crops miss
    counts = [len(augment(image(600, 600, 298))['gt_bboxes']) for _ in range(40)]
    assert set(counts) == {0, 1}


def image(height: int, width: int, margin: float = 4.0) -> dict[str, Any]:
    """What mmdet's loading gives: an image with one box and mask over most of it."""
    masks = np.ones((1, height, width), np.uint8)
    box = [margin, margin, width - margin, height - margin]
    return dict(
        img=np.zeros((height, width, 3), np.uint8),
        img_shape=(height, width),
        gt_bboxes=HorizontalBoxes(torch.tensor([box])),
        gt_bboxes_labels=np.zeros(1, np.int64),
        gt_ignore_flags=np.zeros(1, bool),
        gt_masks=BitmapMasks(masks, height, width),
    )
