"""The loss of masks: its terms, and what void and missing objects do."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
import torch
from mmengine.structures import InstanceData
from torch import Tensor

from moca.eomt.loss import MaskLoss
from moca.eomt.network import Predictions
from moca.errors import UserError
from tests.eomt.tiny import tiny_network, two_targets

POINTS = 400


def some_predictions(images: int = 2, queries: int = 5, count: int = 1) -> Predictions:
    generator = torch.Generator().manual_seed(3)
    masks = [torch.randn(images, queries, 16, 16, generator=generator) * 3 for _ in range(count)]
    classes = [torch.randn(images, queries, 4, generator=generator) for _ in range(count)]
    return Predictions(masks, classes)


def nothing() -> InstanceData:
    return InstanceData(
        labels=torch.zeros(0, dtype=torch.long), masks=torch.zeros(0, 64, 64, dtype=torch.bool)
    )


def loss_of(found: Predictions, truth: list[InstanceData], **options: Any) -> dict[str, Tensor]:
    torch.manual_seed(5)
    return MaskLoss(3, found.masks[0].shape[1], POINTS)(found, truth, **options)


def test_three_terms_of_every_prediction() -> None:
    network = tiny_network()
    losses = MaskLoss(3, 5, POINTS)(network(torch.randn(2, 3, 64, 64)), two_targets())
    assert len(losses) == 3 * 3
    assert {name.split('.')[-1] for name in losses} == {'loss_cls', 'loss_mask', 'loss_dice'}
    sum(value.sum() for value in losses.values()).backward()
    assert all(p.grad is not None for p in network.parameters())


def test_terms_by_hand() -> None:
    """One query of an image with one object of class 0, which covers everything."""
    masks, classes = torch.full((1, 1, 8, 8), 2.0), torch.tensor([[[1.0, 0.0, -1.0, 0.5]]])
    truth = [InstanceData(labels=torch.tensor([0]), masks=torch.ones(1, 64, 64, dtype=torch.bool))]
    drawn = torch.rand
    # away from the border, around which bilinear sampling fades to 0
    with mock.patch.object(torch, 'rand', lambda *a, **k: 0.25 + drawn(*a, **k) / 2):
        losses = loss_of(Predictions([masks], [classes]), truth)
    p = torch.tensor(2.0).sigmoid()
    torch.testing.assert_close(losses['loss_mask'].squeeze(), -5 * p.log())
    dice = 1 - (2 * p * POINTS + 1) / (p * POINTS + POINTS + 1)
    torch.testing.assert_close(losses['loss_dice'].squeeze(), 5 * dice)
    torch.testing.assert_close(losses['loss_cls'].squeeze(), -2 * classes.log_softmax(-1)[0, 0, 0])


def test_no_object_counts_a_tenth() -> None:
    """Two queries, one of which is matched: a mean weighted 1 and .1."""
    masks = torch.stack([torch.full((8, 8), 4.0), torch.full((8, 8), -4.0)])[None]
    classes = torch.tensor([[[3.0, 0.0, 0.0, 0.0], [0.5, 0.0, 0.0, 1.0]]])
    truth = [InstanceData(labels=torch.tensor([0]), masks=torch.ones(1, 64, 64, dtype=torch.bool))]
    losses = loss_of(Predictions([masks], [classes]), truth)
    terms = -classes[0].log_softmax(-1)
    wanted = 2 * (terms[0, 0] + 0.1 * terms[1, 3]) / 1.1
    torch.testing.assert_close(losses['loss_cls'].squeeze(), wanted)


def test_void_pixels_are_negatives_of_every_mask() -> None:
    """A mask that grows into void costs more, in both terms."""
    truth = [two_targets()[1]]
    inside = torch.nn.functional.interpolate(truth[0].masks[None].float(), (16, 16))[0, 0] > 0.5
    sharp = torch.where(inside, 6.0, -6.0).expand(1, 1, 16, 16).clone()
    spilled = sharp.clone()
    spilled[..., :2, :4] = 6.0
    classes = torch.tensor([[[0.0, 5.0, 0.0, 0.0]]])
    before, after = (loss_of(Predictions([each], [classes]), truth) for each in (sharp, spilled))
    assert after['loss_mask'] > before['loss_mask'] + 0.1
    assert after['loss_dice'] > before['loss_dice'] + 0.1


@pytest.mark.parametrize('empty', [[0], [0, 1]])
def test_images_without_an_object_teach_classes_alone(empty: list[int]) -> None:
    found, truth = some_predictions(), two_targets()
    for part in found:
        part[0].requires_grad_()
    for place in empty:
        truth[place] = nothing()
    losses = loss_of(found, truth)
    assert all(torch.isfinite(value).all() for value in losses.values())
    sum(value.sum() for value in losses.values()).backward()
    for place in empty:
        assert not found.masks[0].grad[place].any()
        assert found.classes[0].grad[place].any()
    assert found.masks[0].grad.any() == (len(empty) == 1)


def test_more_objects_than_queries_are_counted() -> None:
    found = some_predictions(images=1, queries=2)
    masks = torch.zeros(3, 64, 64, dtype=torch.bool)
    for place in range(3):
        masks[place, 20 * place : 20 * place + 20] = True
    truth = [InstanceData(labels=torch.tensor([0, 1, 2]), masks=masks)]
    criterion = MaskLoss(3, 2, POINTS)
    with mock.patch('moca.eomt.loss.print_log') as said:
        for _ in range(3):
            losses = criterion(found, truth)
    assert all(torch.isfinite(value).all() for value in losses.values())
    assert said.call_count == 1
    text = said.call_args.args[0]
    assert '3 objects' in text
    assert 'num_queries' in text
    assert criterion.unmatched == 3


def test_predictions_that_are_not_finite_stop_the_run() -> None:
    found = some_predictions()
    found.masks[0][0, 0, 0, 0] = float('nan')
    with pytest.raises(UserError, match='not finite'):
        loss_of(found, two_targets())
