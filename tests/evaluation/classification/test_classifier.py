"""The model: which norm, which weights move, what is random, and what validation sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import Tensor, nn
from torchvision.transforms import functional as transforms

from moca.errors import UserError
from moca.evaluation.classification.classifier import ImageClassifier, NormalizedImages
from moca.evaluation.classification.heads import cross_entropy
from tests.backbone.helpers import TINY, random_images, save, timm_vit

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
MIXUP = dict(
    mixup_alpha=0.8, cutmix_alpha=1.0, prob=1.0, switch_prob=0.5, mode='batch', label_smoothing=0.1
)


def classifier(head: dict[str, Any], frozen: bool = False, **options: Any) -> ImageClassifier:
    torch.manual_seed(0)
    backbone = dict(type='PlainViT', arch=TINY, img_size=32, frozen=frozen)
    backbone |= {} if frozen else dict(final_norm=False)
    return ImageClassifier(
        backbone={**backbone, **options.pop('backbone', {})},
        head=dict(num_classes=5, **head),
        data_preprocessor=dict(type='NormalizedImages', mean=MEAN, std=STD),
        **options,
    )


def tuned(**options: Any) -> ImageClassifier:
    return classifier(dict(type='ClassHead', norm='layer', std=2e-5), **options)


def batch(count: int = 8) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return dict(inputs=images, label=torch.arange(count) % 5)


def test_images_are_normalized_as_torchvision_does() -> None:
    pixels = batch()['inputs']
    ours = NormalizedImages(MEAN, STD)({'inputs': pixels})['inputs']
    mean, std = ([value / 255 for value in values] for values in (MEAN, STD))
    for image, normalized in zip(pixels, ours, strict=True):
        as_image = transforms.to_tensor(image.permute(1, 2, 0).numpy())
        assert torch.equal(normalized, transforms.normalize(as_image, mean, std))


def test_the_checkpoints_norm_is_dropped_for_a_fresh_one(tmp_path: Path) -> None:
    file = timm_vit(TINY)
    nn.init.constant_(file.norm.weight, 7.0)
    path = save(file.state_dict(), tmp_path / 'vit.pth')
    init = dict(type='ViTCheckpoint', checkpoint=str(path))
    model = tuned(backbone=dict(init_cfg=init))
    model.init_weights()
    names = dict(model.named_parameters())
    assert not any(name.startswith('backbone.norm.') for name in names)
    assert torch.equal(names['head.norm.weight'], torch.ones(32))
    assert not names['head.norm.bias'].any()
    images = random_images(2, 3, 32, 32)
    tokens = file.forward_intermediates(images, norm=False, intermediates_only=True)[-1]
    normed = nn.functional.layer_norm(tokens.flatten(2).mean(2), (32,), eps=1e-6)
    expected = nn.functional.linear(normed, names['head.linear.weight'])
    torch.testing.assert_close(model.eval()(images)[0], expected, rtol=1e-4, atol=1e-8)


def test_a_frozen_backbone_stays(tmp_path: Path) -> None:
    model = classifier(dict(type='SweepHead', rates=(0.1, 1.0)), frozen=True, feature='cls+avg')
    model.init_weights()
    before = {k: v.clone() for k, v in model.backbone.state_dict().items()}
    wrapper = OptimWrapper(torch.optim.SGD(model.head.parameters(), lr=1.0))
    graphs = []
    model.backbone.blocks[0].register_forward_hook(lambda *a: graphs.append(a[-1].requires_grad))
    model.train()
    model.train_step(batch(), wrapper)
    assert graphs == [False]  # no activation is kept
    assert all(value.grad is None for value in model.backbone.parameters())
    assert all(torch.equal(before[k], v) for k, v in model.backbone.state_dict().items())
    assert not model.backbone.training


def test_features_are_fp32_under_autocast_unless_asked() -> None:
    images = random_images(2, 3, 32, 32)
    found = {}
    for half in (False, True):
        model = classifier(dict(type='ClassHead'), frozen=True, feature='cls', half=half).eval()
        model.init_weights()
        whole = model.features(images)
        with torch.autocast('cpu', torch.bfloat16):
            found[half] = torch.equal(model.features(images), whole)
    assert found == {False: True, True: False}


def test_logits_that_are_no_numbers_are_refused_unless_a_head_has_others() -> None:
    model = classifier(dict(type='SweepHead', rates=(0.1, 1.0)), frozen=True, feature='cls').eval()
    model.init_weights()
    images = random_images(2, 3, 32, 32)
    with torch.no_grad():
        model.head.heads[0].weight[0, 0] = float('nan')
        assert len(model(images, mode='predict')) == 2  # of two rates one has diverged
        model.head.heads[1].weight[0, 0] = float('inf')
        with pytest.raises(UserError, match='logits are not all finite numbers'):
            model(images, mode='predict')


def test_mixed_labels_are_smoothed_once() -> None:
    model = tuned(mixup=MIXUP)
    seen: list[Tensor] = []
    original = model.head.losses

    def losses(features: Tensor, targets: Tensor) -> dict[str, Tensor]:
        seen.append(targets)
        found: dict[str, Tensor] = original(features, targets)
        return found

    model.head.losses = losses
    with torch.no_grad():
        model(**model.data_preprocessor(batch(), True), mode='loss')
    (targets,) = seen
    torch.testing.assert_close(targets.sum(1), torch.ones(8))
    assert float(targets.min()) == pytest.approx(0.1 / 5)
    logits = torch.zeros(8, 5)
    loss = -(targets * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(cross_entropy(logits, targets), loss)


def test_randomness_follows_from_seed_and_step() -> None:
    """The same step draws the same whatever was drawn before, and leaves nothing behind."""
    model = tuned(mixup=MIXUP, erasing=0.5, backbone=dict(drop_path_rate=0.5))
    model.init_weights()
    nn.init.normal_(model.head.linear.weight)
    model.train()

    def loss(step: int, part: int = 0) -> float:
        model.seed, model.step, model.part = 3, step, (part, 2)
        with torch.no_grad():
            return float(model(**model.data_preprocessor(batch(), True), mode='loss')['loss'])

    state = torch.get_rng_state()
    first = loss(5)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(7)
    assert loss(5) == first
    assert len({first, loss(6), loss(5, part=1)}) == 3


def test_validation_is_not_random() -> None:
    model = tuned(mixup=MIXUP, erasing=1.0, backbone=dict(drop_path_rate=0.9))
    model.init_weights()
    nn.init.normal_(model.head.linear.weight)
    model.train()
    model.eval()
    first, second = (model.val_step(batch()) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one['logits'], other['logits'])


def test_features_that_do_not_fit() -> None:
    with pytest.raises(UserError, match=r"model\.feature='max'"):
        classifier(dict(type='ClassHead'), frozen=True, feature='max')
    with pytest.raises(UserError, match='a backbone that is trained'):
        classifier(dict(type='ClassHead'), feature='cls')
