"""The breakdown of a detector's errors, on a set small enough to work out by hand."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch.utils.data import Dataset

from moca.errors import UserError
from moca.transfer.finished import FinishedRun
from moca.visualize.error_breakdown import AREAS, STEPS, Breakdown, break_down
from moca.visualize.errors import MOST_CLASSES, breakdowns, draw_breakdowns

CAT, DOG, CAR, SKY = 1, 2, 3, 4
CATEGORIES = [
    dict(id=CAT, name='cat', supercategory='animal'),
    dict(id=DOG, name='dog', supercategory='animal'),
    dict(id=CAR, name='car', supercategory='vehicle'),
    dict(id=SKY, name='sky', supercategory='vehicle'),  # never seen
]
IDS = (CAT, DOG, CAR, SKY)


def rectangle(x: float, y: float, w: float, h: float) -> dict[str, Any]:
    return dict(bbox=[x, y, w, h], segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]])


def coco(objects: list[tuple[int, Any]], categories: Any = CATEGORIES) -> COCO:
    """Objects on one image of 200 x 200."""
    annotations = [
        dict(shape, id=number, image_id=1, category_id=category, iscrowd=0,
             area=shape['bbox'][2] * shape['bbox'][3])
        for number, (category, shape) in enumerate(objects, start=1)
    ]  # fmt: skip
    found = COCO()
    found.dataset = dict(
        images=[dict(id=1, height=200, width=200)], annotations=annotations, categories=categories
    )
    with contextlib.redirect_stdout(io.StringIO()):
        found.createIndex()
    return found


def detections(found: list[tuple[int, Any]], kind: str) -> list[dict[str, Any]]:
    """Detections in falling order of their scores."""
    key = 'bbox' if kind == 'bbox' else 'segmentation'
    return [
        {'image_id': 1, 'category_id': c, 'score': 0.9 - 0.01 * n, key: shape[key]}
        for n, (c, shape) in enumerate(found)
    ]


# Three cats, a dog and a car of 20 x 20 pixels, which COCO calls small, far from each other.
CATS = [rectangle(x, 10, 20, 20) for x in (10, 60, 110)]
DOGS, CARS = rectangle(10, 60, 20, 20), rectangle(60, 60, 20, 20)
TRUTH = [*((CAT, shape) for shape in CATS), (DOG, DOGS), (CAR, CARS)]
FOUND = [
    (CAT, DOGS),  # 1: similar class
    (CAT, CARS),  # 2: other class
    (CAT, rectangle(150, 150, 20, 20)),  # 3: background
    (CAT, rectangle(10, 10, 20, 12)),  # 4: the first cat with IoU .6
    (CAT, rectangle(60, 10, 20, 6)),  # 5: the second with IoU .3
    (DOG, DOGS),
]


def share(points: int, precision: float) -> float:
    """Mean precision in percent over COCO's 101 recalls, of which so many are reached."""
    return 100 * points * precision / 101


def polygons(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    from pycocotools import mask as masks

    return [
        {**one, 'segmentation': masks.frPyObjects(one['segmentation'], 200, 200)[0]}
        for one in found
    ]


@pytest.mark.parametrize('kind', ['bbox', 'segm'])
def test_each_step_forgives_one_kind_of_error(kind: str) -> None:
    found = detections(FOUND, kind)
    found = polygons(found) if kind == 'segm' else found
    breakdown = break_down(coco(TRUTH), found, kind, IDS)
    assert breakdown.classes == ('cat', 'dog', 'car', 'sky')
    assert breakdown.steps.shape == (4, len(AREAS), len(STEPS))
    cat = [
        0.0,  # no cat is found at IoU .75
        share(34, 1 / 4),  # one of three (recalls 0 to .33), behind three false ones
        share(67, 2 / 5),  # two of three: of precision 1/4, then 2/5
        share(67, 2 / 4),  # the dog's is forgiven
        share(67, 2 / 3),  # and the car's
        share(67, 1.0),
        100.0,
    ]
    assert np.allclose(breakdown.steps[0, 0], cat)
    assert np.allclose(breakdown.steps[0, 1], cat)  # all are small
    assert np.isnan(breakdown.steps[0, 2:]).all()  # none is medium or large
    assert np.allclose(breakdown.ap[0, 0], share(34, 1 / 4) * 3 / 10)  # IoU .5, .55 and .6
    assert np.allclose(breakdown.steps[1, 0], 100)  # the dog
    assert np.allclose(breakdown.steps[2, 0], [0] * 6 + [100])  # the car, not found
    assert np.isnan(breakdown.steps[3]).all()  # there is no sky
    assert np.allclose(breakdown.mean(breakdown.ap)[0], (breakdown.ap[0, 0] + 100 + 0) / 3)
    assert np.isnan(breakdown.mean(breakdown.ap)[2])


def test_a_second_detection_of_another_class_is_not_forgiven() -> None:
    # an object is ignored once: the second cat on the same dog is background
    found = detections([(CAT, DOGS), (CAT, DOGS), (CAT, CATS[0])], 'bbox')
    truth = coco([(CAT, CATS[0]), (DOG, DOGS)])
    steps = break_down(truth, found, 'bbox', IDS).steps[0, 0]
    assert np.allclose(steps, [share(101, p) for p in (1 / 3, 1 / 3, 1 / 3, 1 / 2, 1 / 2, 1, 1)])


def test_without_supercategories_no_class_is_similar() -> None:
    plain = [dict(id=c['id'], name=c['name']) for c in CATEGORIES]
    steps = break_down(coco(TRUTH, plain), detections(FOUND, 'bbox'), 'bbox', IDS).steps[0, 0]
    assert steps[3] == steps[2]
    assert np.allclose(steps[4], share(67, 2 / 3))


@pytest.mark.parametrize('kind', ['bbox', 'segm'])
def test_categories_that_are_no_classes_do_not_count(kind: str) -> None:
    """A cat found on a dog is an error on background for a detector that knows no dogs."""
    truth = coco(TRUTH)
    truth.dataset['annotations'][3].pop('segmentation')  # the dog's, which nothing reads
    found = [one for one in detections(FOUND, kind) if one['category_id'] != DOG]
    found = polygons(found) if kind == 'segm' else found
    breakdown = break_down(truth, found, kind, (CAR, CAT))
    assert breakdown.classes == ('cat', 'car')
    cat = breakdown.steps[0, 0]
    assert np.allclose(cat[2:], [share(67, 2 / 5)] * 2 + [share(67, 2 / 4), share(67, 1), 100])
    assert np.allclose(breakdown.mean(breakdown.ap)[0], breakdown.ap[:, 0].sum() / 2)


class Known(Dataset[Any]):
    """A validation set whose images must not be asked for."""

    def __init__(self, lazy_init: bool) -> None:
        assert lazy_init
        self.metainfo = dict(classes=('cat',))


def test_an_evaluator_without_annotations_is_refused_before_predicting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(DATASETS._module_dict, 'Known', Known)
    cfg = Config(
        dict(
            val_dataloader=dict(dataset=dict(type='Known')),
            val_evaluator=dict(type='mmdet.CocoMetric'),
        )
    )
    run: Any = SimpleNamespace(folder=Path('run'), checkpoint='random')
    with pytest.raises(UserError, match='run: val_evaluator has no ann_file'):
        breakdowns(FinishedRun(run, cfg, None))


def test_no_detection_at_all_is_nothing_found() -> None:
    breakdown = break_down(coco(TRUTH), [], 'bbox', IDS)
    assert np.allclose(breakdown.steps[:3, 0], [0] * 6 + [100])
    assert np.allclose(breakdown.ap[:3, 0], 0)


def test_ap_is_that_of_cocos_summary_and_the_inputs_stay_as_they_are() -> None:
    random = np.random.default_rng(0)
    objects, found = [], []
    for _ in range(60):
        x, y, w, h = (*random.uniform(0, 100, 2), *random.uniform(10, 180, 2))
        category = int(random.integers(1, 4))
        objects.append((category, rectangle(x, y, w, h)))
        x, y, w, h = np.array([x, y, w, h]) * random.uniform(0.9, 1.1, 4)
        found.append((int(random.choice([category, 1, 2])), rectangle(x, y, w, h)))
    truth, given = coco(objects), detections(found, 'bbox')
    before = repr(given)
    breakdown = break_down(truth, given, 'bbox', IDS)
    assert repr(given) == before
    with contextlib.redirect_stdout(io.StringIO()):
        judge = COCOeval(coco(objects), truth.loadRes(given), 'bbox')
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    mean, fifty, seventy_five, *sizes = 100 * judge.stats[:6]
    assert np.allclose(breakdown.mean(breakdown.ap), [mean, *sizes])
    assert np.allclose(breakdown.mean(breakdown.steps)[0, :2], [seventy_five, fifty])
    assert np.nanmin(np.diff(breakdown.steps[:3, :, 2:], axis=-1)) >= 0  # none takes back


def test_the_sheet_shows_both_ends_of_many_classes(tmp_path: Path) -> None:
    count = MOST_CLASSES + 6
    steps = np.sort(np.random.default_rng(0).uniform(0, 100, (count, 4, 7)), axis=-1)
    steps[0] = np.nan
    many = Breakdown(tuple(f'class {i}' for i in range(count)), steps.mean(-1), steps)
    few = Breakdown(many.classes[:3], many.ap[:3], many.steps[:3])
    out = tmp_path / 'errors.png'
    draw_breakdowns([('a', dict(bbox=many, segm=many)), ('b', dict(bbox=few))], out)
    sheet = np.asarray(Image.open(out).convert('RGB')).astype(int)
    assert (np.abs(sheet - [0xF5, 0x85, 0x18]).sum(-1) < 6).sum() > 1000  # background errors
