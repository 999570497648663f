"""Objects on the sheets of detectors: masks of every kind, and none."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.datasets import CocoDataset
from mmengine.structures import InstanceData
from pycocotools import mask as mask_utils

from moca import figures
from moca.visualize import predictions
from tests.configs.helpers import write_coco
from tests.detection.bad_coco import VAL, edit

PERSON = (slice(8, 72), slice(8, 40))  # rows and columns of the persons of write_coco


def mask_of(kind: str) -> Any:
    mask = np.zeros((96, 128), np.uint8, 'F')
    mask[PERSON] = 1
    if kind == 'polygon':
        return [[8, 8, 40, 8, 40, 72, 8, 72]]
    if kind == 'compressed':
        found = mask_utils.encode(mask)
        return dict(size=[96, 128], counts=found['counts'].decode())
    pixels = mask.ravel('F')
    runs = np.diff([0, *(np.flatnonzero(np.diff(pixels)) + 1), pixels.size])
    return dict(size=[96, 128], counts=runs.tolist())


@pytest.mark.parametrize('kind', ['polygon', 'compressed', 'uncompressed', 'none'])
def test_true_objects(tmp_path: Path, kind: str) -> None:
    root = write_coco(tmp_path / 'coco')

    def change(content: dict[str, Any]) -> None:
        row = content['annotations'][0]
        row.pop('segmentation')
        if kind != 'none':
            row['segmentation'] = mask_of(kind)

    edit(root / VAL, change)
    image = np.zeros((96, 128, 3), np.uint8)
    dataset = CocoDataset(
        data_root=str(root), ann_file=VAL, data_prefix=dict(img='val2017'), test_mode=True
    )
    finished: Any = SimpleNamespace(dataset=dataset)
    found = predictions._true_instances(finished, 0, image)
    assert found['boxes'][0] == [8, 8, 40, 72]
    assert found['labels'] == [0, 2]
    if kind == 'none':
        assert found['masks'][0] is None
    else:
        wanted = np.zeros((96, 128), bool)
        wanted[PERSON] = True
        assert np.array_equal(found['masks'][0], wanted)
    assert found['masks'][1].sum() == 48 * 40  # the car


@pytest.mark.parametrize('masks', [False, True])
def test_found_objects_are_drawn_with_masks_or_without(masks: bool) -> None:
    instances = InstanceData(
        bboxes=torch.tensor([[2.0, 3, 12, 23], [1, 1, 5, 5]]),
        labels=torch.tensor([1, 0]),
        scores=torch.tensor([0.9, 0.1]),
    )
    if masks:
        instances.masks = torch.zeros(2, 30, 40, dtype=torch.bool)
        instances.masks[0, 3:23, 2:12] = True

    found = predictions._found_instances(SimpleNamespace(pred_instances=instances), 0.5)
    figure = figures.sheet([[np.zeros((30, 40, 3), np.uint8)]], [''], 'heading')
    figures.draw_instances(figure.axes[0], found, 'ab', [[255, 0, 0], [0, 255, 0]])
    (axis,) = figure.axes
    assert [text.get_text() for text in axis.texts] == ['b 90 %']
    (box,) = axis.patches
    assert (box.get_x(), box.get_y(), box.get_width(), box.get_height()) == (1.5, 2.5, 10, 20)
    drawn = [image.get_array() for image in axis.images[1:]]
    assert len(drawn) == masks
    for layer in drawn:
        assert np.array_equal(layer[..., 3] > 0, instances.masks[0].numpy())
    figures.plt.close(figure)


def test_a_image_without_a_prediction_says_so() -> None:
    empty = dict(labels=[], boxes=np.zeros((0, 4)), masks=[])
    for instances, expected in ((dict(empty, scores=[]), ['nothing']), (empty, [])):
        figure = figures.sheet([[np.zeros((30, 40, 3), np.uint8)]], [''], 'heading')
        figures.draw_instances(figure.axes[0], instances, 'ab', [[255, 0, 0], [0, 255, 0]])
        assert [text.get_text() for text in figure.axes[0].texts] == expected
        figures.plt.close(figure)
