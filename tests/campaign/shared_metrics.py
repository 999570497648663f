"""Metrics of images that several processes share, of a number which they do not divide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import DefaultSampler

CLASSES = 7
SIZE = 24, 32  # height and width of images

Process = Callable[[Sequence[int]], None]
"""Hands the images of some places to a metric."""


def found(name: str, folder: Path, images: int, seed: int) -> dict[str, float]:
    """What a metric makes of all images, of which each process of the group has its share.

    Args:
        name: Of :data:`METRICS`.
        folder: With what `write` has written.
        images: How many there are; the sampler gives some to two processes where they do not
            divide it.
        seed: Of truth and predictions.
    """
    metric, process = METRICS[name](folder, images, seed)
    places = list(DefaultSampler(range(images), shuffle=False))
    for start in range(0, len(places), 2):
        process(places[start : start + 2])
    return dict(metric.evaluate(images))


def write(folder: Path, images: int, seed: int) -> None:
    """Write the truth that metrics read from files."""
    from moca.detection.panoptic_file import write_ids
    from tests.configs.helpers import write_coco

    write_coco(folder / 'coco', train=1, val=images)
    (folder / 'panoptic').mkdir()
    for place in range(images):
        write_ids(folder / f'panoptic/{place}.png', _blocks(place, seed))


def _source(place: int, seed: int) -> np.random.Generator:
    return np.random.default_rng((seed, place))


def _blocks(place: int, seed: int) -> Any:
    """Segments of 8 x 8 pixels, numbered from 1."""
    numbers = _source(place, seed).integers(1, 6, (3, 4))
    return np.kron(numbers, np.ones((8, 8), int)).astype(np.int32)


def _accuracy(folder: Path, images: int, seed: int) -> tuple[Any, Process]:
    """Three heads; by an odd seed some images have several right classes and one has none."""
    from moca.evaluation.classification.accuracy import ClassAccuracy

    metric = ClassAccuracy()
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(images, 3, CLASSES, generator=generator)
    labels = torch.randint(CLASSES, (images,), generator=generator)
    several = torch.rand(images, CLASSES, generator=generator) < 0.3
    several[0] = False
    held_out = torch.rand(images, generator=generator) < 0.4
    held_out[0] = False

    def process(places: Sequence[int]) -> None:
        rows = list(places)
        batch = dict(label=labels[rows], held_out=held_out[rows])
        if seed % 2:
            batch['labels'] = several[rows]
        rates = (0.1, 0.2, 0.3)
        metric.process(batch, [dict(logits=logits[row], rates=rates) for row in rows])

    return metric, process


def _iou(folder: Path, images: int, seed: int) -> tuple[Any, Process]:
    from moca.segmentation import PresentIoUMetric

    metric = PresentIoUMetric(iou_metrics=['mIoU', 'mDice', 'mFscore'])
    metric.dataset_meta = dict(classes=[str(number) for number in range(CLASSES)])

    def process(places: Sequence[int]) -> None:
        samples = []
        for place in places:
            random = _source(place, seed)
            truth = random.integers(0, CLASSES - 1, (1, *SIZE))
            wrong = random.random((1, *SIZE)) < random.random()
            maps = dict(gt_sem_seg=truth, pred_sem_seg=np.where(wrong, truth // 2, truth))
            maps['gt_sem_seg'][:, :2] = 255
            samples.append({k: dict(data=torch.from_numpy(v)) for k, v in maps.items()})
        metric.process({}, samples)

    return metric, process


def _depth(folder: Path, images: int, seed: int) -> tuple[Any, Process]:
    """Every third image has no pixel with a depth: it is left out of the mean."""
    from moca.depth import CheckedDepthMetric

    metric = CheckedDepthMetric(min_depth_eval=1e-3, max_depth_eval=10.0)

    def process(places: Sequence[int]) -> None:
        samples = []
        for place in places:
            random = _source(place, seed)
            truth = random.uniform(1, 9, (1, *SIZE)) * (0 if place % 3 == seed % 3 else 1)
            guess = random.uniform(1, 9, (1, *SIZE))
            maps = dict(gt_depth_map=truth, pred_depth_map=guess)
            data = {k: dict(data=torch.from_numpy(v).float()) for k, v in maps.items()}
            samples.append(dict(data, img_path=f'{place}.png'))
        metric.process({}, samples)

    return metric, process


def _detections(folder: Path, images: int, seed: int) -> tuple[Any, Process]:
    """Boxes and masks of the two objects of each image, moved a little, and one of nothing."""
    from mmdet.datasets import CocoDataset

    from moca.detection import QuickCocoMetric

    file = folder / 'coco/annotations/instances_val2017.json'
    metric = QuickCocoMetric(ann_file=str(file), metric=['bbox', 'segm'])
    metric.dataset_meta = CocoDataset.METAINFO
    boxes = torch.tensor([[8, 8, 40, 72], [64, 40, 112, 80], [0, 0, 20, 20]])

    def process(places: Sequence[int]) -> None:
        samples = []
        for place in places:
            random = _source(place, seed)
            moved = (boxes + torch.from_numpy(random.integers(-6, 7, (3, 4)))).clamp(0, 90)
            masks = torch.zeros(3, 96, 128, dtype=torch.bool)
            for mask, (left, top, right, bottom) in zip(masks, moved.tolist(), strict=True):
                mask[top:bottom, left:right] = True
            guess = dict(
                bboxes=moved.float(),
                scores=torch.from_numpy(random.uniform(0.1, 1, 3)),
                labels=torch.tensor([0, 2, 0]),
                masks=masks,
            )
            samples.append(dict(img_id=place, ori_shape=(96, 128), pred_instances=guess))
        metric.process({}, samples)

    return metric, process


def _panoptic(folder: Path, images: int, seed: int) -> tuple[Any, Process]:
    from mmdet.structures import INSTANCE_OFFSET

    from moca.detection.panoptic_quality import PanopticQuality

    metric = PanopticQuality()
    names = [str(number) for number in range(5)]
    metric.dataset_meta = dict(classes=names, thing_classes=names[:3], stuff_classes=names[3:])

    def process(places: Sequence[int]) -> None:
        samples = []
        for place in places:
            truth = _blocks(place, seed)
            random = _source(place, seed + 1000)
            segments = [(key, key - 1, False) for key in np.unique(truth).tolist()]
            guess = np.where(random.random(truth.shape) < 0.6 * random.random(), 0, truth - 1)
            sample = dict(seg_map_path=str(folder / f'panoptic/{place}.png'), segments=segments)
            classes = torch.from_numpy(guess + INSTANCE_OFFSET * (guess < 3))[None]
            samples.append(dict(sample, pred_panoptic_seg=dict(sem_seg=classes)))
        metric.process({}, samples)

    return metric, process


METRICS: dict[str, Callable[[Path, int, int], tuple[Any, Process]]] = {
    'accuracy': _accuracy,
    'IoU of classes': _iou,
    'errors of depth': _depth,
    'AP of boxes and masks': _detections,
    'panoptic quality': _panoptic,
}
"""Each returns a metric and what hands it images."""
