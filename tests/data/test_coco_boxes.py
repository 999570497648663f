"""What tools/prepare_data.py check tells of COCO files that a run would go on with."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_utils

from moca.data.coco_survey import CocoSurvey, coco_survey
from moca.data.survey import check_data
from moca.errors import UserError
from tests.detection.own_coco import CONFIG, Content, config, perfect_scores, write
from tools.prepare_data import main

BOTH = ('train', 'val')


def survey(root: Path) -> list[CocoSurvey]:
    return coco_survey(config(root), lambda items, count, title: items)


def corners(content: Content) -> None:
    for row in content['annotations']:
        x, y, w, h = row['bbox']
        row['bbox'] = [x, y, x + w, y + h]


def fractions(content: Content) -> None:
    for row in content['annotations']:
        x, y, w, h = row['bbox']
        row['bbox'] = [x / 96, y / 64, w / 96, h / 64]


def encoded(content: Content) -> None:
    """Masks as run lengths, compressed and not."""
    for number, row in enumerate(content['annotations']):
        x, y, w, h = row['bbox']
        mask = np.zeros((64, 96), np.uint8, 'F')
        mask[y : y + h, x : x + w] = 1
        rle = mask_utils.encode(mask)
        counts: Any = rle['counts'].decode()
        if number % 2:
            ends = np.flatnonzero(np.diff(mask.ravel('F'))) + 1
            counts = np.diff([0, *ends, mask.size]).tolist()
        row['segmentation'] = dict(size=[64, 96], counts=counts)


@pytest.mark.parametrize('first', [lambda content: None, encoded])
def test_corners_in_the_place_of_sizes(tmp_path: Path, first: Any) -> None:
    root = write(tmp_path, lambda c: (first(c), corners(c)), BOTH)
    train, val = survey(root)
    assert [len(found.faults) for found in (train, val)] == [1, 1]
    assert f'{root}/annotations/train.json: 6 boxes hold the corners' in train.faults[0]
    with pytest.raises(UserError, match=r'train\.json: 6 boxes hold the corners .* x2 - x1'):
        check_data(config(root))


@pytest.mark.parametrize('first', [lambda content: None, encoded])
def test_right_boxes_are_not_complained_of(tmp_path: Path, first: Any) -> None:
    root = write(tmp_path, first, BOTH)
    assert [(found.faults, dict(found.odd), found.notes) for found in survey(root)] == [
        ([], {}, []),
        ([], {}, []),
    ]


def test_some_boxes_that_are_not_their_masks(tmp_path: Path) -> None:
    def change(content: Content) -> None:
        content['annotations'][0]['bbox'] = [30, 8, 24, 48]
        content['annotations'][1]['bbox'] = [44, 20, 80, 50]  # corners: 36 x 30 pixels

    train, _ = survey(write(tmp_path, change, BOTH))
    assert train.odd['boxes that are not those of their masks'] == ['1 of train1.png']
    (what,) = [what for what in train.odd if what.startswith('boxes that hold the corners')]
    assert train.odd[what] == ['2 of train1.png']
    assert not train.faults


def test_fractions_in_the_place_of_pixels(tmp_path: Path) -> None:
    root = write(tmp_path, fractions, BOTH)
    assert 'all 6 boxes lie within 0..1: fractions of the image' in survey(root)[0].faults[0]
    with pytest.raises(UserError, match=r'train\.json: all 6 boxes lie within 0\.\.1'):
        check_data(config(root))


def test_corners_without_masks_show_at_the_edge(tmp_path: Path) -> None:
    def change(content: Content) -> None:
        corners(content)
        for row in content['annotations']:
            del row['segmentation']

    cfg = config(write(tmp_path, change, BOTH))
    cfg.model.roi_head.update(mask_head=None, mask_roi_extractor=None)
    found = coco_survey(cfg, lambda items, count, title: items)
    assert all(any('all look like corners' in what for what in part.odd) for part in found)
    write(tmp_path, lambda c: [row.pop('segmentation') for row in c['annotations']], BOTH)
    found = coco_survey(cfg, lambda items, count, title: items)
    assert [dict(part.odd) for part in found] == [{}, {}]


def test_what_is_listed_twice(tmp_path: Path) -> None:
    def change(content: Content) -> None:
        row, image = content['annotations'][0], content['images'][0]
        content['annotations'] += [dict(row, id=90), dict(row, id=91, category_id=2)]
        content['images'].append(dict(image, id=90, file_name=f'./{image["file_name"]}'))
        content['annotations'].append(dict(row, id=92, image_id=90))

    train, val = survey(write(tmp_path, change, ('train',)))
    twice = {what: where for what, where in train.odd.items() if 'twice' in what}
    assert list(twice.values()) == [['90 of train1.png'], ['./train1.png']]
    assert not val.odd


def test_images_that_are_trained_on(tmp_path: Path) -> None:
    root = write(tmp_path)
    (root / 'images/val2.png').write_bytes((root / 'images/train3.png').read_bytes())
    train, val = survey(root)
    assert val.odd['images that are in train as well'] == ['val2.png']
    assert not train.odd


def test_area_zero_is_told_apart(tmp_path: Path) -> None:
    train, _ = survey(write(tmp_path, lambda c: c['annotations'][1].update(area=0), BOTH))
    what = "annotations whose 'area' is 0 or less though their box has one"
    assert train.odd[what] == ['2 of train1.png']


def many(content: Content) -> None:
    """160 persons in the first image, 80 persons and 60 cars in the second."""
    content['annotations'] = []
    for image, category, count in ((1, 1, 160), (2, 1, 80), (2, 2, 60)):
        for place in range(count):
            x, y = 3 * (place % 32), 3 * (place // 32) + (40 if category == 2 else 0)
            content['annotations'].append(
                dict(
                    id=len(content['annotations']) + 1,
                    image_id=image,
                    category_id=category,
                    bbox=[x, y, 3, 3],
                    area=9,
                    iscrowd=0,
                    segmentation=[[x, y, x + 3, y, x + 3, y + 3, x, y + 3]],
                )
            )


def test_what_the_metric_reaches_with_many_objects(tmp_path: Path) -> None:
    """Persons are 240, of which 180 can be found; the bound is that of perfect predictions."""
    root = write(tmp_path, many)
    (note,) = survey(root)[1].notes
    assert '2 images have more objects than can be found, up to 160' in note
    assert 'At most 66.7% of the objects can be found' in note  # 100 + 100 of 300
    bound = float(re.search(r'mAP can reach ([\d.]+)%', note)[1]) / 100
    # The first 160 of an image: all of the second, of which the metric counts each class alone.
    scores = perfect_scores(root, at_most=160)
    assert bound == pytest.approx(scores['coco/bbox_mAP'], abs=0.001)
    assert bound < 0.9


def test_the_command_prints_all_of_it(tmp_path: Path, capsys: Any) -> None:
    def change(content: Content) -> None:
        for row in content['annotations']:
            row['id'] -= 1
        content['annotations'].append(dict(content['annotations'][0], id=90))

    root = write(tmp_path, change, BOTH)
    out = root / 'sheet.png'
    assert main(['check', str(CONFIG), '--data-root', str(root), '--out', str(out)]) == 0
    text = ' '.join(capsys.readouterr().out.split())
    assert 'train: read otherwise than written: 7 ids of annotations numbered anew, from 1' in text
    # ids as the file writes them
    assert 'train: 1 objects listed twice (same image, class and box): 90 of train1.png' in text
    assert Image.open(out).size[0] > 100
