"""Figures of COCO by faster-coco-eval against pycocotools'."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from faster_coco_eval import COCOeval_faster
from mmdet.evaluation.metrics import CocoMetric, FasterCocoMetric
from pycocotools import mask as rle_masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from moca.detection import QuickCocoMetric

HEIGHT, WIDTH = 128, 160
CLASSES = ('car', 'person', 'dog', 'never there', 'never found')
ITEMS = ['mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l']
ITEMS += ['AR@100', 'AR@300', 'AR@1000', 'AR_s@1000', 'AR_m@1000', 'AR_l@1000']
Found = dict[str, Any]


def ellipse(random: np.random.Generator) -> np.ndarray:
    """A mask with at least one pixel; its area is small, medium or large by COCO's limits."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    y, x = random.integers(HEIGHT), random.integers(WIDTH)
    high, wide = np.exp(random.uniform(np.log(2), np.log(110), 2))
    return ((rows - y) / high) ** 2 + ((columns - x) / wide) ** 2 <= 1


def shifted(random: np.random.Generator, mask: np.ndarray) -> np.ndarray:
    return np.roll(mask, random.integers(-4, 5, 2), (0, 1))


def box(mask: np.ndarray) -> list[float]:
    rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    return [float(v) for v in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)]


def segmentation(random: np.random.Generator, mask: np.ndarray, crowd: bool) -> Any:
    """A polygon, compressed RLE or uncompressed RLE, as COCO's files have them."""
    if not crowd and random.random() < 0.5:
        x1, y1, x2, y2 = box(mask)
        return [[x1, y1, x2, y1, x2, y2, (x1 + x2) / 2, y2 + 1, x1, y2]]
    encoded = rle_masks.encode(np.asfortranarray(mask, np.uint8))
    if random.random() < 0.5:
        return dict(size=[HEIGHT, WIDTH], counts=encoded['counts'].decode())
    flat = np.concatenate(([0], mask.ravel('F'), [2]))
    ends = np.nonzero(np.diff(flat))[0]
    runs = np.diff(np.concatenate(([0], ends))).tolist()
    return dict(size=[HEIGHT, WIDTH], counts=[int(run) for run in runs])


def make(path: Path, count: int = 30, detections: int = 40, classes: int = 5) -> list[Found]:
    """Write a COCO file, and return what a detector may have found in each of its images.

    Scores have one digit, so that most are tied; the first image has no object, the second no
    detection, and some objects are found twice, or as another class.
    """
    random = np.random.default_rng(0)
    annotations: list[dict[str, Any]] = []
    found = []
    for number in range(count):
        masks = [ellipse(random) for _ in range(0 if number == 0 else 6)]
        labels = random.choice([label for label in range(classes) if label != 3], len(masks))
        for mask, label in zip(masks, labels, strict=True):
            crowd = bool(random.random() < 0.2)
            x1, y1, x2, y2 = box(mask)
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=100 + number,
                    category_id=7 + int(label),
                    iscrowd=int(crowd),
                    area=float(mask.sum()),
                    bbox=[x1, y1, x2 - x1, y2 - y1],
                    segmentation=segmentation(random, mask, crowd),
                )
            )
        guesses, given = [], []
        for _ in range(0 if number == 1 else detections):
            if masks and random.random() < 0.5:
                index = random.integers(len(masks))
                guesses.append(shifted(random, masks[index]))
                given.append(labels[index] if random.random() < 0.8 else 0)
            else:
                guesses.append(ellipse(random))
                given.append(random.integers(classes))
        given = [0 if label == 4 else label for label in given]
        found.append(
            dict(
                bboxes=torch.tensor([box(mask) for mask in guesses]).reshape(-1, 4),
                masks=torch.tensor(np.array(guesses)).reshape(-1, HEIGHT, WIDTH),
                labels=torch.tensor(given, dtype=torch.long),
                scores=torch.tensor(random.random(len(guesses)).round(1), dtype=torch.float),
            )
        )
    images = [dict(id=100 + n, height=HEIGHT, width=WIDTH) for n in range(count)]
    categories = [dict(id=7 + n, name=name) for n, name in enumerate(CLASSES[:classes])]
    path.write_text(json.dumps(dict(images=images, annotations=annotations, categories=categories)))
    return found


def figures(kind: type[CocoMetric], path: Path, found: list[Found], **options: Any) -> Any:
    options = dict(metric=['bbox', 'segm'], metric_items=ITEMS, classwise=True) | options
    metric = kind(ann_file=str(path), **options)
    metric.dataset_meta = dict(
        classes=[c['name'] for c in json.loads(path.read_text())['categories']]
    )
    for number, instances in enumerate(found):
        sample = dict(img_id=100 + number, ori_shape=(HEIGHT, WIDTH), pred_instances=instances)
        metric.process({}, [sample])
    return metric.evaluate(len(found))


def evaluated(kind: Any, path: Path, found: list[Found], what: str) -> Any:
    """An evaluation of either program, as mmdet sets it up."""
    rows = []
    for number, instances in enumerate(found):
        for corners, mask, label, score in zip(
            *(instances[name] for name in ('bboxes', 'masks', 'labels', 'scores')), strict=True
        ):
            x1, y1, x2, y2 = corners.tolist()
            row = dict(image_id=100 + number, category_id=7 + int(label), score=score.item())
            if what == 'bbox':
                row['bbox'] = [x1, y1, x2 - x1, y2 - y1]
            else:
                row['segmentation'] = rle_masks.encode(np.asfortranarray(mask, np.uint8))
            rows.append(row)
    truth = COCO(str(path))
    evaluation = kind(truth, truth.loadRes(rows), what)
    evaluation.params.maxDets = [100, 300, 1000]
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation


@pytest.mark.parametrize('what', ['bbox', 'segm'])
def test_both_programs_agree(tmp_path: Path, what: str) -> None:
    found = make(tmp_path / 'truth.json')
    theirs, quick = (
        evaluated(kind, tmp_path / 'truth.json', found, what)
        for kind in (COCOeval, COCOeval_faster)
    )
    close = dict(rtol=0, atol=1e-12)
    np.testing.assert_allclose(quick.stats[:12], theirs.stats, **close)
    assert np.unique(theirs.stats).size > 6
    assert theirs.stats.min() > 0  # there are objects of all sizes
    for field in ('precision', 'recall', 'scores'):
        np.testing.assert_allclose(quick.eval[field], theirs.eval[field], **close)


def test_metric_gives_the_figures_of_pycocotools(tmp_path: Path) -> None:
    found = make(tmp_path / 'truth.json')
    theirs, ours = (
        figures(kind, tmp_path / 'truth.json', found) for kind in (CocoMetric, QuickCocoMetric)
    )
    assert set(theirs) == {f'coco/{kind}_{item}' for kind in ('bbox', 'segm') for item in ITEMS} | {
        f'coco/{name}_precision' for name in CLASSES
    }
    assert ours == pytest.approx(theirs, nan_ok=True)


def test_the_faster_program_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError('slow')

    found = make(tmp_path / 'truth.json', count=4)
    monkeypatch.setattr('mmdet.evaluation.metrics.coco_metric.COCOeval', refuse)
    assert figures(QuickCocoMetric, tmp_path / 'truth.json', found)['coco/bbox_mAP'] > 0
    with pytest.raises(AssertionError, match='slow'):
        figures(
            QuickCocoMetric, tmp_path / 'truth.json', found, metric='proposal', metric_items=None
        )


def test_hundreds_of_detections_are_those_of_pycocotools(tmp_path: Path) -> None:
    found = make(tmp_path / 'truth.json', count=6, detections=250, classes=1)
    theirs, quick, ours = (
        figures(kind, tmp_path / 'truth.json', found, metric_items=['mAP', 'mAP_50'])
        for kind in (CocoMetric, FasterCocoMetric, QuickCocoMetric)
    )
    assert ours == theirs
    assert quick != theirs  # what the metric is there to avoid


def test_nothing_found(tmp_path: Path) -> None:
    nothing = make(tmp_path / 'truth.json', count=3, detections=0)
    assert figures(QuickCocoMetric, tmp_path / 'truth.json', nothing) == {}
