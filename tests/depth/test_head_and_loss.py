"""Depth from bins, its loss, its metric and centered patches, against values made by hand."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import Tensor

import moca.transfer  # noqa: F401  its classes are registered
from moca.depth.estimator import CenteredDepthEstimator, pad_centered
from moca.depth.head import LinearDepthHead
from moca.depth.loss import SigLoss
from moca.depth.metrics import CheckedDepthMetric
from moca.errors import UserError
from tests.configs.helpers import REPOSITORY

ARCH = dict(patch_size=16, embed_dim=32, depth=2, num_heads=2, img_size=32)


def head(bins: int = 2, **options: Any) -> Any:
    """A head of two channels whose batch norm changes nothing in eval mode."""
    loss = dict(type='SigLoss', warmup=0)
    built = LinearDepthHead(2, loss, bins=bins, norm_cfg=dict(type='BN', eps=1e-12), **options)
    return built.eval()


def estimator(mirrored: bool = True) -> Any:
    torch.manual_seed(0)
    cfg = dict(
        type='CenteredDepthEstimator',
        backbone=dict(type='PlainViT', arch=ARCH, frozen=True),
        decode_head=dict(
            type='LinearDepthHead',
            in_channels=32,
            norm_cfg=dict(type='BN'),
            loss_decode=dict(type='SigLoss'),
        ),
        test_cfg=dict(mode='whole', mirrored=mirrored),
    )
    model = MODELS.build(cfg)
    model.init_weights()
    return model


def sample(depth: Tensor) -> Any:
    return SimpleNamespace(gt_depth_map=SimpleNamespace(data=depth), metainfo={})


def test_depth_of_bins_is_their_mean_by_rectified_logits() -> None:
    built = head(3, min_depth=1.0, max_depth=9.0)  # bins at 1, 5, 9
    with torch.no_grad():
        built.conv.weight.zero_()
        built.conv.bias.copy_(torch.tensor([-4.0, 0.3, 0.0]))  # of which relu + .1 is .1, .4, .1
    assert built([torch.randn(1, 2, 2, 2)]).flatten().tolist() == pytest.approx([5.0] * 4)
    with torch.no_grad():
        built.conv.bias.copy_(torch.tensor([-4.0, -1.0, 0.7]))  # .1, .1, .8
    assert built([torch.randn(1, 2, 1, 1)]).item() == pytest.approx(0.1 + 0.5 + 7.2)


def test_a_config_starts_from_small_weights() -> None:
    """The recorded deviation of the source's is 0.01004, its biases are 0."""
    model = Config.fromfile(REPOSITORY / 'configs/depth/nyu_linear.py').model
    torch.manual_seed(0)
    built = MODELS.build({**model.decode_head, 'norm_cfg': dict(type='BN')})
    built.init_weights()
    assert built.conv.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert built.conv.bias.abs().max() == 0
    assert len(built.depths) == 256
    assert (built.depths[0].item(), built.depths[-1].item()) == pytest.approx((1e-3, 10.0))


def test_depth_and_not_logits_is_enlarged() -> None:
    """Of two patches of 1 and 9 m, the pixels between have depths between, evenly spaced."""
    built = head(2, min_depth=1.0, max_depth=9.0)
    with torch.no_grad():
        built.conv.weight.copy_(1e4 * torch.eye(2)[..., None, None])
        built.conv.bias.zero_()
    features = torch.zeros(1, 2, 2, 1)
    features[0, 0, 0], features[0, 1, 1] = 1, 1
    found = built.enlarged([features], (8, 1)).flatten()
    # the centers of 8 pixels lie at -.375, -.125, .125, ... of the distance of two patches
    expected = [min(max(1 + 8 * ((i + 0.5) / 4 - 0.5), 1), 9) for i in range(8)]
    assert found.tolist() == pytest.approx(expected, abs=1e-2)


def test_loss_before_and_after_its_warm_up() -> None:
    prediction, truth = torch.tensor([1.0, 2.0, 4.0, 5.0]), torch.tensor([2.0, 2.0, 2.0, 0.0])
    g = [math.log(p + 1e-3) - math.log(t + 1e-3) for p, t in ((1, 2), (2, 2), (4, 2))]
    mean = sum(g) / 3
    variance = sum((x - mean) ** 2 for x in g) / 2
    loss = SigLoss(warmup=100)
    values = [loss(prediction, truth).item() for _ in range(101)]
    assert values[98] == values[99] == pytest.approx(math.sqrt(0.15) * abs(mean), abs=1e-7)
    assert values[100] == pytest.approx(math.sqrt(variance + 0.15 * mean**2), abs=1e-6)
    resumed = SigLoss(warmup=100)
    resumed.load_state_dict(loss.state_dict())
    assert resumed(prediction, truth).item() == values[100]


def test_parts_of_an_accumulated_batch_are_one_step() -> None:
    model = estimator()
    for step in range(2):
        for number in range(3):
            model.part = (number, 3)
            model.loss(torch.randn(2, 3, 32, 32), [sample(torch.ones(1, 32, 32))] * 2)
        assert model.decode_head.loss_decode.steps == step + 1


def test_pixels_without_depth_have_no_gradient_and_may_be_all() -> None:
    truth = torch.full((2, 1, 4, 4), 3.0)
    truth[:, :, :2] = 0  # padded or not measured
    for loss in (SigLoss(warmup=0), SigLoss(warmup=9)):
        prediction = torch.rand(2, 1, 4, 4).add(1).requires_grad_()
        loss(prediction, truth).backward()
        assert prediction.grad is not None
        assert prediction.grad[:, :, :2].abs().max() == 0
        assert prediction.grad[:, :, 2:].abs().min() > 0
        prediction.grad = None
        loss(prediction, torch.zeros_like(truth)).backward()
        assert prediction.grad.abs().max() == 0


def test_depth_beyond_what_is_measured_is_learned_from() -> None:
    """The range of 10 m counts in tests alone."""
    truth = torch.full((1, 1, 2, 2), 3.0)
    truth[..., 1] = 12.0
    prediction = torch.rand(1, 1, 2, 2).add(1).requires_grad_()
    SigLoss(warmup=0)(prediction, truth).backward()
    assert prediction.grad is not None
    assert prediction.grad.abs().min() > 0


def test_backbone_and_batch_norm_stand_still_in_tests() -> None:
    model = estimator().train()
    assert not model.backbone.training
    assert not any(parameter.requires_grad for parameter in model.backbone.parameters())
    model.eval()
    images = torch.randn(2, 3, 40, 50)
    first, second = model.inference(images), model.inference(images)
    assert torch.equal(first, second)
    assert torch.equal(first[:1], model.inference(images[:1])) or torch.allclose(
        first[:1], model.inference(images[:1]), atol=1e-5
    )


def test_a_mirrored_image_has_the_mirrored_depth() -> None:
    images = torch.randn(1, 3, 32, 48)
    model = estimator().eval()
    depth = model.inference(images)
    torch.testing.assert_close(model.inference(images.flip(3)).flip(3), depth)
    once = estimator(mirrored=False).eval()
    both = (once.inference(images) + once.inference(images.flip(3)).flip(3)) / 2
    torch.testing.assert_close(both, depth)


@pytest.mark.parametrize(
    ('size', 'patch', 'top', 'left'), [((30, 37), 16, 1, 5), ((31, 32), 16, 0, 0)]
)
def test_images_stand_in_the_middle_of_whole_patches(
    size: tuple[int, int], patch: int, top: int, left: int
) -> None:
    images = torch.rand(2, 3, *size) + 1
    padded = pad_centered(images, patch)
    assert all(
        side % patch == 0 and side - had < patch
        for side, had in zip(padded.shape[2:], size, strict=True)
    )
    inside = padded[:, :, top : top + size[0], left : left + size[1]]
    assert torch.equal(inside, images)
    assert padded.sum() == pytest.approx(images.sum().item(), rel=1e-6)


def test_other_tests_than_of_the_whole_image_are_refused() -> None:
    with pytest.raises(UserError, match="mode='whole'"):
        CenteredDepthEstimator(test_cfg=dict(mode='slide', stride=(2, 2)), backbone=None)
    with pytest.raises(UserError, match=r'max_depth=0\.001'):
        head(2, max_depth=1e-3)


def measured(pairs: list[tuple[Tensor, Tensor]], **options: Any) -> dict[str, float]:
    metric = CheckedDepthMetric(min_depth_eval=1e-3, max_depth_eval=10.0, prefix='depth', **options)
    for truth, prediction in pairs:
        metric.process(
            {},
            [
                dict(
                    gt_depth_map=dict(data=truth),
                    pred_depth_map=dict(data=prediction),
                    img_path='a.png',
                )
            ],
        )
    return metric.compute_metrics(metric.results)


def test_errors_are_averaged_over_images_and_not_over_pixels() -> None:
    truth = torch.full((1, 6, 8), 4.0)
    assert measured([(truth, truth)])['rmse'] == 0
    part = truth.clone()
    part[:, 1:] = 0  # fewer pixels count as much
    found = measured([(truth, truth + 1), (part, part + 3)])
    assert found['rmse'] == pytest.approx(2.0)  # 2.236 over the pixels of equally many
    assert found['abs_rel'] == pytest.approx((1 / 4 + 3 / 4) / 2)
    assert found['d1'] == 0
    # beyond 10 m is no depth to measure; an image without any is left out
    assert measured([(truth, truth + 1), (truth + 9, truth)])['rmse'] == pytest.approx(1.0)
    with pytest.raises(UserError, match='depth_rescale_factor'):
        measured([(truth * 1000, truth)])


def test_images_that_are_left_out_keep_their_places_among_processes() -> None:
    """mmengine joins what processes have found by turns, without None: two images in each, of three
    in all."""
    truth = torch.full((1, 6, 8), 4.0)
    nothing = torch.zeros_like(truth)
    shares = []
    for pairs in ([(nothing, truth), (truth, truth + 2)], [(truth, truth + 1), (nothing, truth)]):
        metric = CheckedDepthMetric(min_depth_eval=1e-3, max_depth_eval=10.0)
        for depth, guess in pairs:
            maps = dict(gt_depth_map=dict(data=depth), pred_depth_map=dict(data=guess))
            metric.process({}, [dict(maps, img_path='a.png')])
        shares.append(metric.results)
    turns = [result for turn in itertools.zip_longest(*shares) for result in turn]
    joined = [result for result in turns if result is not None][:3]
    assert metric.compute_metrics(joined)['rmse'] == pytest.approx(1.5)


def test_eigens_rectangle_is_of_nyu_alone() -> None:
    truth = torch.full((1, 480, 640), 2.0)
    wrong = truth.clone()
    wrong[:, :45] = wrong[:, 471:] = 7
    wrong[:, :, :41] = wrong[:, :, 601:] = 7
    assert measured([(truth, wrong)], crop_type='nyu_crop')['rmse'] == 0
    wrong[:, 45, 41] = 7
    assert measured([(truth, wrong)], crop_type='nyu_crop')['rmse'] > 0
    with pytest.raises(UserError, match=r'a\.png.*nyu_crop'):
        measured([(truth[:, :100], wrong[:, :100])], crop_type='nyu_crop')
