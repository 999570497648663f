"""Crops without a mask are drawn again from the same image; images without one give way."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from mmdet.datasets.transforms import RandomCrop as DetRandomCrop
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.registry import DefaultScope
from mmseg.datasets import ADE20KDataset
from mmseg.datasets.transforms import RandomCrop
from PIL import Image

from moca.eomt.crops import TRIES, RedrawEmpty
from tests.configs.helpers import write_ade20k


def a_label_map(rows: int = 6) -> dict[str, Any]:
    """An image of 32 x 32 with a class in its lower right corner."""
    labels = np.full((32, 32), 255, np.uint8)
    labels[32 - rows :, 32 - rows :] = 3
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    fields = dict(img=image, gt_seg_map=labels, seg_fields=['gt_seg_map'])
    return dict(fields, img_shape=(32, 32), img_path='a.png')


def objects(crowd: bool = False) -> dict[str, Any]:
    """The same with one object there, and its box."""
    masks = (a_label_map()['gt_seg_map'] == 3).astype(np.uint8)[None]
    return dict(
        img=a_label_map()['img'],
        img_shape=(32, 32),
        img_path='a.png',
        gt_bboxes=HorizontalBoxes(np.array([[26.0, 26, 32, 32]], np.float32)),
        gt_bboxes_labels=np.array([1]),
        gt_ignore_flags=np.array([crowd]),
        gt_masks=BitmapMasks(masks, 32, 32),
    )


def test_the_first_crop_with_a_mask_is_taken() -> None:
    """As a loop over the draws of the same stream of random numbers."""
    again = RedrawEmpty([dict(type='mmseg.RandomCrop', crop_size=(12, 12))])
    plain, draws = RandomCrop(crop_size=(12, 12)), []
    for seed in range(20):
        np.random.seed(seed)
        expected, number = plain.transform(a_label_map()), 1
        while (expected['gt_seg_map'] == 255).all():
            expected, number = plain.transform(a_label_map()), number + 1
        np.random.seed(seed)
        given = a_label_map()
        found = again.transform(given)
        assert found is not None
        assert (found['img'] == expected['img']).all()
        assert (found['gt_seg_map'] == expected['gt_seg_map']).all()
        assert given['img'].shape == (32, 32, 3)
        draws.append(number)
    assert max(draws) > 3
    assert min(draws) == 1


def test_boxes_and_masks_of_objects_stay_together() -> None:
    """mmdet moves boxes in place, in each draw."""
    options = dict(crop_size=(12, 12), allow_negative_crop=True, recompute_bbox=False)
    again, plain = RedrawEmpty([dict(type='mmdet.RandomCrop', **options)]), DetRandomCrop(**options)
    np.random.seed(0)
    alone = [len(plain.transform(objects())['gt_masks']) for _ in range(20)]
    assert 0 in alone
    for _ in range(20):
        found = again.transform(objects())
        assert found is not None
        (mask,) = found['gt_masks'].masks
        rows, columns = np.nonzero(mask)
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert found['gt_bboxes'].tensor.tolist() == [box]


def test_what_has_no_mask_is_left_out_and_named_once() -> None:
    with mock.patch('moca.eomt.crops.print_log') as said:
        again = RedrawEmpty([dict(type='mmdet.RandomCrop', crop_size=(12, 12))])
        assert again.transform(objects(crowd=True)) is None
        assert again.transform(a_label_map(rows=0)) is None
    assert said.call_count == 1
    assert 'a.png: no mask to learn from' in said.call_args.args[0]


def test_an_object_that_no_draw_keeps_ends_the_draws() -> None:
    """A pixel that shrinking to an eighth loses every time."""
    again = RedrawEmpty([dict(type='mmseg.Resize', scale=(4, 4))])
    drawn = mock.Mock(wraps=again.transforms)
    with mock.patch.object(again, 'transforms', drawn), mock.patch('moca.eomt.crops.print_log'):
        assert again.transform(a_label_map(rows=1)) is None
    assert drawn.call_count == TRIES


def test_a_data_set_gives_another_image(tmp_path: Path) -> None:
    root = write_ade20k(tmp_path / 'ade')
    first = sorted((root / 'annotations/training').iterdir())[0]
    Image.fromarray(np.zeros((64, 96), np.uint8)).save(first)
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations'),
        dict(type='RedrawEmpty', transforms=[dict(type='RandomCrop', crop_size=(32, 32))]),
        dict(type='PackSegInputs'),
    ]
    prefix = dict(img_path='images/training', seg_map_path='annotations/training')
    with DefaultScope.overwrite_default_scope('mmseg'):
        dataset = ADE20KDataset(data_root=str(root), data_prefix=prefix, pipeline=pipeline)
    with mock.patch('moca.eomt.crops.print_log') as said:
        samples = [dataset[0]['data_samples'] for _ in range(4)]
    assert first.stem in said.call_args.args[0]
    for sample in samples:
        assert first.stem not in sample.img_path
        assert (sample.gt_sem_seg.data != 255).any()


@pytest.mark.parametrize('wrong', ['gt_masks', 'gt_seg_map'])
def test_transforms_that_return_nothing_are_tried_again(wrong: str) -> None:
    given = objects() if wrong == 'gt_masks' else a_label_map()
    again = RedrawEmpty([])
    with mock.patch.object(again, 'transforms', mock.Mock(side_effect=[None, given])):
        assert again.transform(given) is not None
