"""mIoU over the classes present against counting pixels."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmseg.evaluation.metrics import IoUMetric
from torch import nn

from moca.engine.batch_norm import NoteBatchNorm, RecomputeBatchNorm
from moca.segmentation import PresentIoUMetric

CLASSES = 6


def brute_force(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Mean IoU in percent over the classes of the labels, 255 ignored."""
    prediction = np.concatenate([p[label != 255] for p, label in pairs])
    label = np.concatenate([label[label != 255] for _, label in pairs])
    ious = [
        ((prediction == c) & (label == c)).sum() / ((prediction == c) | (label == c)).sum()
        for c in np.unique(label)
    ]
    return 100 * float(np.mean(ious))


def test_mean_over_present_classes() -> None:
    random = np.random.default_rng(0)
    pairs = []
    for _ in range(3):
        label = random.integers(0, 4, (9, 7))  # classes 4 and 5 never occur
        label[random.random((9, 7)) < 0.2] = 255
        prediction = np.where(random.random((9, 7)) < 0.3, 5, label % CLASSES)  # 5 is predicted
        pairs.append((prediction, label))
    results = {}
    for cls in (PresentIoUMetric, IoUMetric):
        metric = cls()
        metric.dataset_meta = dict(classes=[str(c) for c in range(CLASSES)])
        metric.process(
            {},
            [
                dict(
                    pred_sem_seg=dict(data=torch.as_tensor(prediction)[None]),
                    gt_sem_seg=dict(data=torch.as_tensor(label)[None]),
                )
                for prediction, label in pairs
            ],
        )
        results[cls] = metric.evaluate(len(pairs))
    ours, theirs = results[PresentIoUMetric], results[IoUMetric]
    present = ours.pop('mIoU_present')
    assert present == pytest.approx(brute_force(pairs), abs=0.01)
    assert ours == theirs
    # mmseg counts class 5 as 0, leaves class 4 out, and so divides by 5 instead of 4.
    assert theirs['mIoU'] == pytest.approx(present * 4 / 5, abs=0.01)


def test_worse_than_the_most_frequent_class_everywhere_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    monkeypatch.setattr(
        'moca.segmentation.metrics.print_log', lambda text, *_, **__: said.append(text)
    )
    metric = PresentIoUMetric()
    metric.dataset_meta = dict(classes=('a', 'b', 'c'))
    truth = torch.tensor([[0, 0, 0, 1]])  # a everywhere: (3/4 + 0) / 2 = 37.5
    for found, warned in (([[0, 0, 0, 0]], False), ([[2, 2, 2, 1]], False), ([[1, 1, 1, 2]], True)):
        said.clear()
        area = metric.intersect_and_union(torch.tensor(found), truth, 3, 255)
        metric.compute_metrics([area])
        assert bool(said) == warned
    assert 'mIoU_present 0.00 is below the 37.50' in said[0]
    assert 'batch norm' not in said[0]
    for layer, hooks, told in (
        (nn.BatchNorm2d(3), [], True),
        (nn.LayerNorm(3), [], False),
        (nn.BatchNorm2d(3), [RecomputeBatchNorm()], False),
    ):
        evaluator = SimpleNamespace(metrics=[metric, object()])
        loop = SimpleNamespace(evaluator=evaluator)
        NoteBatchNorm().before_val(
            SimpleNamespace(model=nn.Sequential(layer), val_loop=loop, hooks=hooks)
        )
        metric.compute_metrics([area])
        assert ('RecomputeBatchNorm' in said[-1]) == told
