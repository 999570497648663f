"""Heads of others: their norm, the order of their channels, and what is no classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from moca.errors import UserError
from moca.evaluation.classification.classifier import ImageClassifier
from moca.evaluation.classification.published import read_head
from tests.backbone.helpers import TINY, random_images, randomize, save, timm_vit


def load(path: Path, feature: str, backbone: Path | None = None, **head: Any) -> ImageClassifier:
    init = dict(type='ViTCheckpoint', checkpoint=str(backbone or path))
    frozen = feature != 'avg_prenorm'
    model = ImageClassifier(
        backbone=dict(type='PlainViT', arch=TINY, img_size=32, frozen=frozen, init_cfg=init),
        head=dict(type='ClassHead', num_classes=5, **head),
        feature=feature,
        head_from=str(path),
    )
    model.init_weights()
    return model.eval()


def linear_file(path: Path, weight: Tensor) -> Path:
    """As DINO's eval_linear.py writes it."""
    state = {'module.linear.weight': weight, 'module.linear.bias': torch.arange(5.0)}
    return save({'epoch': 100, 'state_dict': state, 'best_acc': 1.0}, path)


@pytest.mark.parametrize(
    ('pool', 'feature', 'norm'), [('avg', 'avg_prenorm', 'layer'), ('token', 'cls', None)]
)
def test_fine_tuned_files_give_timms_logits(
    pool: str, feature: str, norm: str | None, tmp_path: Path
) -> None:
    """The norm of MAE's ``global_pool`` acts on the mean of the tokens, not on each of them."""
    theirs = VisionTransformer(**TINY, num_classes=5, global_pool=pool)
    randomize(theirs)
    path = save({'model': theirs.state_dict()}, tmp_path / 'finetuned.pth')
    head = read_head(path, 32)
    assert (head.feature, head.with_backbone, head.norm is None) == (feature, True, norm is None)
    model = load(path, feature, norm=norm)
    images = random_images(3, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model(images)[0], theirs.eval()(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ('raw', 'averaged'), [('model', 'model_ema'), ('state_dict', 'state_dict_ema')]
)
def test_head_and_blocks_are_of_the_same_weights(raw: str, averaged: str, tmp_path: Path) -> None:
    """Of raw and averaged weights the averaged ones, of a head as of its ViT."""
    vits = [VisionTransformer(**TINY, num_classes=5, global_pool='avg') for _ in range(2)]
    for number, vit in enumerate(vits):
        randomize(vit, seed=number)
    states = dict(zip((raw, averaged), (vit.state_dict() for vit in vits), strict=True))
    path = save(states, tmp_path / 'finetuned.pth')
    images = random_images(3, 3, 32, 32)
    with torch.no_grad():
        ours = load(path, 'avg_prenorm', norm='layer')(images)[0]
        torch.testing.assert_close(ours, vits[1].eval()(images), rtol=1e-5, atol=1e-5)


def test_dinos_channels_are_interleaved(tmp_path: Path) -> None:
    """facebookresearch/dino, eval_linear.py:166-170: stacked along a last axis, then reshaped."""
    vit = timm_vit(TINY)
    backbone = save(vit.state_dict(), tmp_path / 'vit.pth')
    weight = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    path = linear_file(tmp_path / 'linear.pth', weight)
    images = random_images(3, 3, 32, 32)
    with torch.no_grad():
        tokens = vit.forward_features(images)
        pair = torch.cat([tokens[:, 0, :, None], tokens[:, 1:].mean(1)[..., None]], dim=-1)
        expected = nn.functional.linear(pair.reshape(3, -1), weight, torch.arange(5.0))
        ours = load(path, 'cls+avg', backbone)(images)[0]
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
    plain = read_head(path, 32, interleaved=False)
    assert torch.equal(plain.weight, weight)


def test_class_tokens_of_several_blocks(tmp_path: Path) -> None:
    weight = torch.randn(5, 96, generator=torch.Generator().manual_seed(0))
    head = read_head(linear_file(tmp_path / 'linear.pth', weight), 32)
    assert (head.feature, head.with_backbone) == ('cls*3', False)
    assert torch.equal(head.weight, weight)


def test_what_is_no_classifier(tmp_path: Path) -> None:
    bare = save(timm_vit(TINY).state_dict(), tmp_path / 'vit.pth')
    with pytest.raises(UserError, match='no head in it'):
        read_head(bare, 32)
    odd = linear_file(tmp_path / 'linear.pth', torch.zeros(5, 50))
    with pytest.raises(UserError, match='stands on 50 channels, no multiple'):
        read_head(odd, 32)
