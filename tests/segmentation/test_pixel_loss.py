"""The loss in parts against mmseg's of whole maps: loss, accuracy and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor

from moca.segmentation import LinearSegHead, pixel_loss
from moca.segmentation.pixel_loss import can_be_in_parts, loss_in_parts
from tests.backbone.helpers import TINY, randomize

CLASSES = 7


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five rows at a time, so that tiny images take several blocks and a rest."""
    monkeypatch.setitem(pixel_loss._BLOCK_BYTES, 'cpu', 4 * 2 * CLASSES * 40 * 5)


def head(align_corners: bool = False, **loss: Any) -> LinearSegHead:
    return LinearSegHead(
        in_channels=4,
        num_classes=CLASSES,
        align_corners=align_corners,
        loss_decode=dict(type='mmseg.CrossEntropyLoss', loss_weight=0.4, **loss),
    )


def logits_and_labels(ignored: int = 1) -> tuple[Tensor, Tensor]:
    """Logits of 4 x 6 for two images of 32 x 40, of which every so many rows are ignored."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(2, CLASSES, 4, 6, generator=generator)
    labels = torch.randint(CLASSES, (2, 32, 40), generator=generator)
    labels[0, ::ignored] = 255
    return logits, labels


def mmsegs(head: LinearSegHead, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    samples = [SegDataSample(gt_sem_seg=PixelData(data=one)) for one in labels]
    return head.loss_by_feat(logits, samples)


def compare(head: LinearSegHead, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    assert can_be_in_parts(head)
    given = [logits.clone().requires_grad_() for _ in range(2)]
    expected, found = mmsegs(head, given[0], labels), loss_in_parts(head, given[1], labels)
    assert found.keys() == expected.keys() == {'loss_ce', 'acc_seg'}
    for name, value in expected.items():
        assert found[name].shape == value.shape
        torch.testing.assert_close(found[name], value)
    # what comes after it in the graph counts, too
    (3 * expected['loss_ce']).backward()
    (3 * found['loss_ce']).backward()
    scale = given[0].grad.abs().max().clamp(min=1e-8)
    torch.testing.assert_close(given[1].grad / scale, given[0].grad / scale, rtol=0, atol=1e-5)
    assert not found['acc_seg'].requires_grad
    return found


@pytest.mark.filterwarnings('ignore:When align_corners=True')
@pytest.mark.parametrize('avg_non_ignore', [False, True])
@pytest.mark.parametrize('align_corners', [False, True])
def test_equals_mmseg(align_corners: bool, avg_non_ignore: bool) -> None:
    found = compare(head(align_corners, avg_non_ignore=avg_non_ignore), *logits_and_labels(3))
    assert found['loss_ce'] > 0.5
    assert 5 < found['acc_seg'] < 95


def test_images_without_a_label() -> None:
    logits, labels = logits_and_labels()
    assert labels[0].eq(255).all()
    for avg_non_ignore in (False, True):
        compare(head(avg_non_ignore=avg_non_ignore), logits, labels)
        found = compare(head(avg_non_ignore=avg_non_ignore), logits, torch.full_like(labels, 255))
        assert found['loss_ce'] == 0


def test_half_precision_is_enlarged_in_full() -> None:
    logits, labels = logits_and_labels(3)
    half = logits.bfloat16().requires_grad_()
    with torch.autocast('cpu', torch.bfloat16):
        found = loss_in_parts(head(), half, labels)
    expected = loss_in_parts(head(), half.detach().float(), labels)
    assert found['loss_ce'].dtype == torch.float32
    torch.testing.assert_close(found['loss_ce'], expected['loss_ce'])
    found['loss_ce'].backward()
    assert half.grad.dtype == torch.bfloat16


class OwnLoss(LinearSegHead):
    """A head with a loss of its own."""

    def loss_by_feat(
        self, seg_logits: Tensor, batch_data_samples: list[SegDataSample]
    ) -> dict[str, Tensor]:
        return super().loss_by_feat(2 * seg_logits, batch_data_samples)


def test_other_losses_are_left_to_mmseg() -> None:
    assert not can_be_in_parts(head(class_weight=[1.0] * CLASSES))
    assert not can_be_in_parts(head(reduction='sum'))
    assert not can_be_in_parts(head(use_sigmoid=True))
    assert not can_be_in_parts(OwnLoss(in_channels=4, num_classes=CLASSES))
    dice = [dict(type='mmseg.CrossEntropyLoss'), dict(type='mmseg.DiceLoss')]
    assert not can_be_in_parts(LinearSegHead(in_channels=4, num_classes=7, loss_decode=dice))
    sampled = dict(type='OHEMPixelSampler', thresh=0.7)
    assert not can_be_in_parts(LinearSegHead(in_channels=4, num_classes=7, sampler=sampled))
    one_channel = dict(num_classes=2, out_channels=1, threshold=0.5)
    assert not can_be_in_parts(LinearSegHead(in_channels=4, **one_channel))


@pytest.mark.parametrize('heads', ['one', 'several', 'weighted'])
def test_losses_of_a_segmentor(heads: str) -> None:
    def linear(**loss: Any) -> dict[str, Any]:
        loss_decode = dict(type='mmseg.CrossEntropyLoss', **loss)
        common = dict(in_channels=32, num_classes=CLASSES)
        return dict(type='LinearSegHead', loss_decode=loss_decode, **common)

    weighted = linear(class_weight=[0.5] + [1.0] * (CLASSES - 1))
    auxiliary = {
        'one': linear(loss_weight=0.4),
        'several': [linear(), weighted],
        'weighted': weighted,
    }
    models = []
    for name in ('mmseg.EncoderDecoder', 'LeanEncoderDecoder'):
        cfg = ConfigDict(
            type=name,
            backbone=dict(type='PlainViT', arch=dict(TINY)),
            decode_head=linear(),
            auxiliary_head=auxiliary[heads],
            test_cfg=dict(mode='whole'),
        )
        models.append(MODELS.build(cfg))
        randomize(models[-1])
    _, labels = logits_and_labels(3)
    inputs = torch.randn(2, 3, 32, 40, generator=torch.Generator().manual_seed(0))
    samples = [SegDataSample(gt_sem_seg=PixelData(data=one[None])) for one in labels]
    expected, found = [model.loss(inputs, samples) for model in models]
    assert found.keys() == expected.keys()
    assert len(found) == {'one': 4, 'several': 6, 'weighted': 4}[heads]
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)
