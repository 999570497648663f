"""Panoptic annotations: read, checked, turned into masks, and scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import INSTANCE_OFFSET
from mmengine.config import Config
from PIL import Image

from moca.data.panoptic_check import check_panoptic
from moca.data.panoptic_survey import panoptic_survey
from moca.detection.panoptic_dataset import LoadPanopticMasks, PanopticDataset
from moca.detection.panoptic_drawing import color_segments
from moca.detection.panoptic_file import read_ids, read_panoptic_file, write_ids
from moca.detection.panoptic_quality import PanopticQuality, count_matches, quality
from moca.errors import UserError

CLASSES = dict(thing_classes=('cat', 'dog'), stuff_classes=('grass',))
CATEGORIES = [
    dict(id=7, name='grass', isthing=0),
    dict(id=3, name='cat', isthing=1),
    dict(id=5, name='dog', isthing=1),
]
BIG = 256**3 - 1


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An image of 8 x 6 with a cat, a crowd of dogs, grass, and two void rows."""
    ids = np.full((6, 8), 70_000, np.int32)
    ids[:2] = 0
    ids[2:4, :3], ids[4:, 5:] = BIG, 258
    for name in ('images', 'masks'):
        (tmp_path / name).mkdir()
    write_ids(tmp_path / 'masks/a.png', ids)
    cv2.imwrite(str(tmp_path / 'images/a.jpg'), np.zeros((6, 8, 3), np.uint8))
    write(tmp_path)
    return tmp_path


def write(root: Path, segments: Any = None, **changes: Any) -> None:
    segments = segments or [
        dict(id=BIG, category_id=3, iscrowd=0),
        dict(id=258, category_id=5, iscrowd=1),
        dict(id=70_000, category_id=7, iscrowd=0),
    ]
    content = dict(
        images=[dict(id=1, file_name='a.jpg', height=6, width=8)],
        annotations=[dict(image_id=1, file_name='a.png', segments_info=segments)],
        categories=CATEGORIES,
    )
    (root / 'a.json').write_text(json.dumps(content | changes))


def fields(root: Path) -> dict[str, Any]:
    prefix = dict(img='images', seg='masks')
    return dict(data_root=str(root), ann_file='a.json', data_prefix=prefix, metainfo=CLASSES)


def checked(root: Path, **head: int) -> None:
    cfg = Config(dict(model=dict(panoptic_head=head)))
    check_panoptic(cfg, fields(root), 'train_dataloader.dataset')


def test_ids_are_red_green_blue(tmp_path: Path) -> None:
    Image.new('RGB', (2, 1), (3, 2, 1)).save(tmp_path / 'a.png')
    assert read_ids(tmp_path / 'a.png').tolist() == [[3 + 2 * 256 + 65_536] * 2]
    ids = np.array([[0, 1, 255, 256], [65_535, 65_536, BIG, 7]], np.int32)
    write_ids(tmp_path / 'b.png', ids)
    assert (read_ids(tmp_path / 'b.png') == ids).all()


def test_masks_of_things_and_stuff(root: Path) -> None:
    dataset = PanopticDataset(**fields(root), pipeline=[])
    assert dataset.metainfo['classes'] == ('cat', 'dog', 'grass')
    row = dataset.get_data_info(0)
    found = LoadPanopticMasks().transform({**row, 'ori_shape': (6, 8)})
    assert found['gt_bboxes_labels'].tolist() == [0, 1, 2]
    assert found['gt_ignore_flags'].tolist() == [False, True, False]
    masks = found['gt_masks'].masks
    assert masks.sum((1, 2)).tolist() == [6, 6, 4 * 8 - 12]
    assert masks.sum(0)[:2].sum() == 0  # void is of no mask
    boxes = found['gt_bboxes'].tensor.tolist()
    assert boxes == [[0, 2, 3, 4], [5, 4, 8, 6], [0, 2, 8, 6]]


def test_segments_without_pixels_are_left_out_and_counted(root: Path) -> None:
    segments = [dict(id=BIG, category_id=3), dict(id=9, category_id=5), dict(id=258, category_id=5)]
    write(root, [*segments, dict(id=70_000, category_id=7)])
    row = PanopticDataset(**fields(root), pipeline=[]).get_data_info(0)
    assert LoadPanopticMasks().transform(row)['gt_bboxes_labels'].tolist() == [0, 1, 2]
    (survey,) = looked_at(root)
    assert (survey.faults, survey.without, survey.crowds) == ([], 1, 0)
    assert survey.segments == {3: 1, 5: 1, 7: 1}
    assert survey.pixels == {3: 6, 5: 6, 7: 20}


def looked_at(root: Path) -> Any:
    dataset = dict(type=PanopticDataset, **fields(root))
    cfg = Config(dict(train_dataloader=dict(dataset=dataset)))
    return panoptic_survey(cfg, lambda rows, *_: rows)


def test_images_of_crowds_alone_are_not_trained_on(root: Path) -> None:
    ids = np.full((6, 8), 258, np.int32)
    write_ids(root / 'masks/a.png', ids)
    write(root, [dict(id=258, category_id=5, iscrowd=1)])
    options = fields(root) | dict(pipeline=[], filter_cfg=dict(filter_empty_gt=True))
    assert len(PanopticDataset(**options, test_mode=True)) == 1
    with pytest.raises(UserError, match='no image has a segment that is no crowd'):
        PanopticDataset(**options)


@pytest.mark.parametrize(
    ('segments', 'text'),
    [
        ([dict(id=2**24, category_id=3)], '16777216, but a PNG holds ids from 1 to 16777215'),
        ([dict(id=0, category_id=3)], 'id=0'),
        ([dict(id=1.5, category_id=3)], 'id=1.5'),
        ([dict(id=1, category_id=3), dict(id=1, category_id=5)], 'id 1 occurs twice'),
        ([dict(id=1, category_id=4)], 'no category has the id 4'),
        ([dict(id=1)], 'lacks id or category_id'),
        ([dict(id=1, category_id=[3])], 'Write a number as category_id'),
        ([dict(id=1, category_id=3, iscrowd='0')], '0 or 1 as iscrowd'),
    ],
)
def test_faults_of_segments_are_named(root: Path, segments: Any, text: str) -> None:
    write(root, segments)
    with pytest.raises(UserError, match=text):
        read_panoptic_file(root / 'a.json')


def test_faults_of_a_file_are_named(root: Path) -> None:
    good = json.loads((root / 'a.json').read_text())
    (row,) = good['annotations']
    for changes, text in (
        (dict(annotations=[row, row]), 'image 1 has annotations twice'),
        (dict(annotations=[row, {**row, 'image_id': 4}]), r'does not list, such as 4\.'),
        (dict(categories=CATEGORIES[:1] * 2 + CATEGORIES), 'occurs twice'),
        (dict(categories=[dict(id=1, name='cat')]), r'categories\[0\] has no isthing'),
        (dict(annotations=[dict(image_id=1)]), 'has no file_name, segments_info'),
    ):
        write(root, **changes)
        with pytest.raises(UserError, match=text):
            read_panoptic_file(root / 'a.json')
    (root / 'a.json').write_text('[')
    with pytest.raises(UserError, match='not a COCO panoptic file: no JSON'):
        read_panoptic_file(root / 'a.json')


@pytest.mark.parametrize(
    ('table', 'change', 'text'),
    [
        ('annotations', dict(segments_info=None), r'has segments_info=None\. Write a list'),
        ('annotations', dict(segments_info=5), 'has segments_info=5'),
        ('annotations', dict(image_id=[1]), r'annotations\[0\] has image_id=\[1\]'),
        ('annotations', dict(file_name=7), r"has file_name=7\. Write a file's name"),
        ('images', dict(id={}), r'images\[0\] has id={}'),
        ('images', dict(height='tall'), "has height='tall'. Write a whole number of pixels"),
        ('images', dict(width=0), 'has width=0'),
        ('images', dict(width=7.5), 'has width=7.5'),
        ('categories', dict(id=None), 'has id=None'),
        ('categories', dict(name=['grass']), r'has name=.*Write a text'),
        ('categories', dict(isthing='0'), "has isthing='0'. Write 0 or 1"),
    ],
)
def test_fields_of_another_type_are_named(root: Path, table: str, change: Any, text: str) -> None:
    content = json.loads((root / 'a.json').read_text())
    content[table][0].update(change)
    (root / 'a.json').write_text(json.dumps(content))
    with pytest.raises(UserError, match=text):
        read_panoptic_file(root / 'a.json')


def test_an_image_that_is_listed_twice_is_refused(root: Path) -> None:
    (image,) = json.loads((root / 'a.json').read_text())['images']
    write(root, images=[image, {**image, 'file_name': 'b.jpg'}])
    with pytest.raises(UserError, match='image 1 is listed twice'):
        read_panoptic_file(root / 'a.json')
    write(root, images=[{**image, 'height': 6.0, 'width': '8'}])
    (read,) = read_panoptic_file(root / 'a.json').images
    assert (read.height, read.width) == (6, 8)


def test_a_png_that_disagrees_stops_the_loading(root: Path) -> None:
    row = PanopticDataset(**fields(root), pipeline=[]).get_data_info(0)
    Image.new('RGB', (8, 6), (9, 0, 0)).save(root / 'masks/a.png')
    with pytest.raises(UserError, match='id 9 is no segment of the JSON file'):
        LoadPanopticMasks().transform(row)
    Image.new('RGB', (6, 8)).save(root / 'masks/a.png')
    with pytest.raises(UserError, match='6 x 8 pixels for an image of 8 x 6'):
        LoadPanopticMasks().transform(row)
    Image.new('P', (8, 6)).save(root / 'masks/a.png')
    with pytest.raises(UserError, match='mode P, where ids of segments take RGB'):
        LoadPanopticMasks().transform(row)
    (root / 'masks/a.png').write_bytes(b'x')
    with pytest.raises(UserError, match='cannot be read'):
        LoadPanopticMasks().transform(row)


def test_a_survey_names_every_fault(root: Path) -> None:
    write_ids(root / 'masks/a.png', np.full((6, 8), 9, np.int32))
    (survey,) = looked_at(root)
    assert 'a.png: id 9 is no segment' in survey.faults[0]
    assert not survey.right
    (root / 'a.json').unlink()
    (survey,) = looked_at(root)
    assert 'no such annotation file' in survey.faults[0]


def test_segments_are_drawn_in_the_colors_of_their_classes() -> None:
    image = np.full((4, 9, 3), 100, np.uint8)
    ids = np.repeat([[5, 5, 5, 0, 0, 0, 7, 7, 7]], 4, 0)
    drawn = color_segments(image, ids, {5: 0, 7: 1}, 2, [(255, 0, 0), (0, 0, 200)])
    assert (drawn[:, 4] == 100).all()  # of no segment
    assert (drawn[:, 3] == 255).all()  # between two
    red, blue = drawn[0, 1].tolist(), drawn[0, 7].tolist()
    assert red[0] > 140
    assert red[1] == red[2] == 40
    assert blue == [40, 40, 160]


def test_data_are_checked_before_a_run(root: Path) -> None:
    checked(root, num_things_classes=2, num_stuff_classes=1)
    with pytest.raises(UserError, match=r'2 classes of things, but .*num_things_classes=80'):
        checked(root, num_things_classes=80, num_stuff_classes=1)
    write(root, categories=[*CATEGORIES, dict(id=9, name='cow', isthing=1)])
    with pytest.raises(UserError, match="category 'cow' is no class"):
        checked(root)
    write(root, categories=CATEGORIES[:2], segments=[dict(id=BIG, category_id=3)])
    with pytest.raises(UserError, match="no category 'dog'"):
        checked(root)
    write(root, categories=[{**CATEGORIES[0], 'isthing': 1}, *CATEGORIES[1:]])
    with pytest.raises(UserError, match="'grass' is of kind thing, the class of kind stuff"):
        checked(root)
    write(root, annotations=[])
    with pytest.raises(UserError, match='no image with annotations'):
        checked(root)
    write(root)
    Image.new('P', (8, 6)).save(root / 'masks/a.png')
    with pytest.raises(UserError, match='mode P, where ids of segments take RGB'):
        checked(root)
    (root / 'masks/a.png').unlink()
    write_ids(root / 'masks/b.png', np.zeros((1, 1), np.int32))
    with pytest.raises(UserError, match=r'a.png'):
        checked(root)


def test_quality_by_hand() -> None:
    """Ten pixels in a row; classes a, b.

    Truth: a a a a | b b b | void void | a crowd of b. Found: a of 5 pixels (IoU 4 / 5), b of 2
    pixels (IoU 2 / 3), b of the void and the crowd (excused), and nothing else.
    """
    truth = np.array([[0, 0, 0, 0, 1, 1, 1, -1, -1, 2]])
    found = np.array([[0, 0, 0, 0, 0, 1, 1, 2, 2, 2]])
    counts = count_matches(truth, [0, 1, 1], [False, False, True], found, [0, 1, 1], 3)
    assert counts.tolist() == [[0.8, 1, 0, 0], [pytest.approx(2 / 3), 1, 0, 0], [0, 0, 0, 0]]
    table = quality(counts)
    assert table[:2].tolist() == [[0.8, 0.8, 1.0], [pytest.approx(2 / 3), pytest.approx(2 / 3), 1]]
    assert np.isnan(table[2]).all()


def test_misses_and_false_alarms_by_hand() -> None:
    """Half is no match; a class that is wrong is missed and invented."""
    truth = np.array([[0, 0, 1, 1, 1, 1]])
    half = count_matches(truth, [0, 0], [False] * 2, np.array([[0, -1, 1, 1, 1, 1]]), [0, 0], 2)
    assert half.tolist() == [[1.0, 1, 1, 1], [0, 0, 0, 0]]
    assert quality(half)[0].tolist() == [0.5, 1.0, 0.5]
    other = count_matches(truth, [0, 0], [False] * 2, np.array([[0, 0, 1, 1, 1, 1]]), [0, 1], 2)
    assert other.tolist() == [[1.0, 1, 0, 1], [0, 0, 1, 0]]


def slow_counts(truth: Any, labels: Any, crowds: Any, found: Any, names: Any, number: int) -> Any:
    """The definition, segment by segment."""
    counts = np.zeros((number, 4))
    matched_truth, matched_found = set(), set()
    for t, label in enumerate(labels):
        for f, name in enumerate(names):
            both = ((truth == t) & (found == f)).sum()
            void = ((truth == -1) & (found == f)).sum()
            union = (truth == t).sum() + (found == f).sum() - both - void
            if name == label and not crowds[t] and union and both / union > 0.5:
                counts[label] += [both / union, 1, 0, 0]
                matched_truth.add(t)
                matched_found.add(f)
    for t, label in enumerate(labels):
        if t not in matched_truth and not crowds[t] and (truth == t).any():
            counts[label, 3] += 1
    for f, name in enumerate(names):
        area = (found == f).sum()
        crowd = sum(
            ((truth == t) & (found == f)).sum() for t in range(len(labels))
            if crowds[t] and labels[t] == name
        )  # fmt: skip
        excused = ((truth == -1) & (found == f)).sum() + crowd
        if f not in matched_found and area and excused <= area / 2:
            counts[name, 2] += 1
    return counts


def test_counts_equal_the_definition_on_noise() -> None:
    random = np.random.default_rng(0)
    seen = np.zeros(4)
    for _ in range(40):
        truth = random.integers(-1, 5, (4, 5)).repeat(3, 0).repeat(3, 1)
        found = np.where(random.random(truth.shape) < 0.2, random.integers(-1, 6), truth)
        labels, names = random.integers(0, 3, 5), random.integers(0, 3, 6)
        names[:5] = np.where(random.random(5) < 0.8, labels, names[:5])
        crowds = random.random(5) < 0.2
        ours = count_matches(truth, labels, crowds, found, names, 3)
        np.testing.assert_allclose(ours, slow_counts(truth, labels, crowds, found, names, 3))
        seen += ours.sum(0)
    assert (seen > 5).all()


def test_the_truth_scores_100(root: Path) -> None:
    dataset = PanopticDataset(**fields(root), pipeline=[])
    row = dataset.get_data_info(0)
    ids = read_ids(row['seg_map_path'])
    found = np.full(ids.shape, 3, np.int64)
    found[ids == BIG], found[ids == 70_000] = 0 + INSTANCE_OFFSET, 2
    metric = PanopticQuality()
    metric.dataset_meta = dataset.metainfo
    sample = dict(row, pred_panoptic_seg=dict(sem_seg=torch.from_numpy(found)[None]))
    metric.process(None, [sample])
    figures = metric.evaluate(1)
    assert {name: value for name, value in figures.items() if name.startswith('coco/PQ')} == {
        'coco/PQ': 1.0,
        'coco/PQ_th': 1.0,
        'coco/PQ_st': 1.0,
    }
    found[ids == BIG] = 3  # the cat is missed
    metric.process(None, [sample])
    assert metric.evaluate(1)['coco/PQ'] == 0.5
