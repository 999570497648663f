"""The metric against counts by hand: several heads, held-out images, cut and several labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from moca.errors import UserError
from moca.evaluation.classification.accuracy import ClassAccuracy


def measured(
    logits: Tensor, right: list[int], meta: dict[str, Any] | None = None, **batch: Any
) -> tuple[dict[str, float], ClassAccuracy]:
    """Metrics of logits ``[heads, N, K]``, which come in two batches."""
    metric = ClassAccuracy()
    metric.dataset_meta = meta
    heads, count = logits.shape[:2]
    rates = tuple(0.1 * (head + 1) for head in range(heads))
    for part in (slice(0, 1), slice(1, count)):
        data = {key: torch.as_tensor(value)[part] for key, value in batch.items()}
        samples = [{'logits': each, 'rates': rates} for each in logits[:, part].unbind(1)]
        metric.process({'label': torch.tensor(right)[part], **data}, samples)
    return metric.compute_metrics(metric.results), metric


def one_hot(answers: list[list[int]], classes: int) -> Tensor:
    """Logits ``[heads, N, K]`` of given answers."""
    return torch.nn.functional.one_hot(torch.tensor(answers), classes).float()


def test_top1_top5_and_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 40, 9, generator=generator)
    labels = torch.randint(9, (40,), generator=generator)
    found, metric = measured(logits, labels.tolist())
    order = (-logits[0]).argsort(1)
    assert found['top1'] == pytest.approx(100 * np.mean((order[:, 0] == labels).numpy()))
    within = [int(label) in row[:5] for label, row in zip(labels, order.tolist(), strict=True)]
    assert found['top5'] == pytest.approx(100 * np.mean(within))
    share = logits[0].softmax(1)[torch.arange(40), labels]
    assert found['loss'] == pytest.approx(float(-share.log().mean()), rel=1e-5)
    assert metric.chosen == {}


def test_fewer_classes_than_five() -> None:
    found, _ = measured(one_hot([[0, 1, 2]], 3), [0, 0, 0])
    assert found['top1'] == pytest.approx(100 / 3)
    assert found['top5'] == 100.0


def test_the_best_head_and_the_one_chosen_on_held_out_images() -> None:
    # heads 0 and 1 are right twice of three, head 1 alone on what is held out
    answers = [[0, 1, 9, 9, 9], [0, 9, 2, 9, 4], [9, 9, 9, 3, 4]]
    held = [False, False, False, True, True]
    logits = one_hot(answers, 10)
    found, metric = measured(logits, [0, 1, 2, 3, 4], held_out=held)
    assert found['top1'] == pytest.approx(200 / 3)
    assert found['top1_held_out'] == 0.0  # head 2 is best there, and never right elsewhere
    assert metric.chosen['last']['rate'] == pytest.approx(0.2)  # the larger of two equal ones
    assert metric.chosen['top1']['chosen_on'] == 'validation images'
    assert metric.chosen['top1_held_out']['rate'] == pytest.approx(0.3)
    assert metric.chosen['top1_held_out']['chosen_on'] == '2 training images held out'


def test_a_head_that_has_diverged_is_never_right() -> None:
    """Numbers that are none would be sorted before all others, in the order of the classes."""
    logits = torch.cat([one_hot([[0, 9, 9]], 10), torch.full((1, 3, 10), float('nan'))])
    found, metric = measured(logits, [0, 0, 0])
    assert found['top1'] == pytest.approx(100 / 3)
    assert metric.chosen['last']['rate'] == pytest.approx(0.1)
    assert measured(logits[1:], [0, 0, 0])[0]['top5'] == 0.0


def test_logits_are_cut_to_the_classes_of_the_set() -> None:
    # the best class of all is no class of the set
    logits = torch.tensor([[[9.0, 0, 5, 0, 3], [9, 0, 1, 0, 3]]])
    found, _ = measured(logits, [2, 2], dict(kept=[2, 4]))
    assert found['top1'] == 50.0
    expected = -torch.tensor([[5.0, 3], [1, 3]]).log_softmax(1)[:, 0].mean()
    assert found['loss'] == pytest.approx(float(expected))


def test_several_right_classes_and_none() -> None:
    labels = torch.zeros(4, 3, dtype=torch.bool)
    labels[0, [0, 2]] = labels[1, 1] = labels[3, 0] = True
    found, _ = measured(one_hot([[2, 0, 0, 0]], 3), [0, 0, 0, 0], labels=labels)
    assert found['top1'] == pytest.approx(200 / 3)  # the third has no label and does not count
    with pytest.raises(UserError, match='none of them has a label'):
        measured(one_hot([[2, 0, 0, 0]], 3), [0] * 4, labels=torch.zeros(4, 3).bool())


def test_an_image_without_label_keeps_its_place() -> None:
    """Several processes' lists are joined by their places and cut to the number of images."""
    labels = torch.eye(3).bool()
    labels[1] = False
    _, metric = measured(one_hot([[0, 1, 2]], 3), [0, 1, 2], labels=labels)
    assert len(metric.results) == 3
