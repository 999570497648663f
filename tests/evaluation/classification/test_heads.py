"""Heads, their optimizers and their rates, against the same written out or done one by one."""

from __future__ import annotations

import math
from logging import getLogger
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.optim import OptimWrapper
from timm.models.vision_transformer import VisionTransformer
from timm.optim import param_groups_layer_decay
from torch import Tensor, nn

from moca.backbone import PlainViT
from moca.engine.layer_decay import LayerDepthOptimWrapperConstructor
from moca.engine.rate_schedule import RateSchedule, epoch_rate
from moca.errors import UserError
from moca.evaluation.classification.heads import SWEEP_RATES, ClassHead, SweepHead
from moca.evaluation.classification.optim import HeadOptimWrapperConstructor

SGD = dict(type='SGD', lr=1.0, momentum=0.9, weight_decay=0.0)
LARS = dict(type='Lars', lr=0.4, momentum=0.9, trust_coeff=0.001, weight_decay=0.0)


class OnFeatures(nn.Module):
    """A head where the constructor of its optimizer finds it in a classifier."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head


def batches(steps: int, width: int = 8, classes: int = 5) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(16, width, generator=generator),
            torch.randint(classes, (16,), generator=generator),
        )
        for _ in range(steps)
    ]


def trained(head: Any, optimizer: dict[str, Any], steps: int, scale: float = 1.0) -> Any:
    wrapper = HeadOptimWrapperConstructor(dict(optimizer=optimizer))(OnFeatures(head))
    for features, targets in batches(steps):
        wrapper.update_params(head.losses(scale * features, targets)['loss'])
    return head


class TestSweep:
    def test_rates_are_the_published_ones(self) -> None:
        assert len(SWEEP_RATES) == 45
        assert SWEEP_RATES[0] == pytest.approx(1e-4)
        assert SWEEP_RATES[9] == pytest.approx(1e-3)
        assert SWEEP_RATES[44] == pytest.approx(9.0)

    def test_together_as_alone(self) -> None:
        def sweep(rates: tuple[float, ...]) -> SweepHead:
            torch.manual_seed(3)
            return SweepHead(8, 5, rates=rates)

        rates = (0.01, 0.1, 1.0)
        together = trained(sweep(rates), SGD, 20)
        for place, rate in enumerate(rates):
            alone = trained(sweep((rate,)), SGD, 20)
            ours, theirs = together.heads[place], alone.heads[0]
            torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-6, atol=1e-7)
            torch.testing.assert_close(ours.bias, theirs.bias, rtol=1e-6, atol=1e-7)

    def test_heads_are_sgd_by_hand(self) -> None:
        torch.manual_seed(0)
        head: Any = SweepHead(8, 5, rates=(0.02, 0.5))
        weights = [each.weight.detach().clone().requires_grad_() for each in head.heads]
        biases = [each.bias.detach().clone().requires_grad_() for each in head.heads]
        buffers: list[Any] = [None] * 4
        for features, targets in batches(5):
            for place, rate in enumerate((0.02, 0.5)):
                pair = [weights[place], biases[place]]
                loss = F.cross_entropy(F.linear(features, *pair), targets)
                for part, gradient in enumerate(torch.autograd.grad(loss, pair)):
                    old = buffers[2 * place + part]
                    now = gradient if old is None else 0.9 * old + gradient
                    buffers[2 * place + part] = now
                    with torch.no_grad():
                        pair[part] -= rate * now
        trained(head, SGD, 5)
        for each, weight, bias in zip(head.heads, weights, biases, strict=True):
            torch.testing.assert_close(each.weight, weight, rtol=1e-6, atol=1e-7)
            torch.testing.assert_close(each.bias, bias, rtol=1e-6, atol=1e-7)

    def test_one_that_diverges_leaves_the_others(self) -> None:
        def sweep(rates: tuple[float, ...]) -> SweepHead:
            torch.manual_seed(3)
            return SweepHead(8, 5, rates=rates)

        both: Any = trained(sweep((0.001, 1e30)), SGD, 12, scale=30.0)
        alone = trained(sweep((0.001,)), SGD, 12, scale=30.0)
        logits = both(batches(1)[0][0])
        assert not logits[1].isfinite().all() or logits[1].abs().max() > 1e20
        torch.testing.assert_close(both.heads[0].weight, alone.heads[0].weight)
        assert both.losses(*batches(1)[0])['loss'].isfinite()
        assert both.heads[1].weight.isfinite().all()

    def test_start(self) -> None:
        head: Any = SweepHead(400, 50, rates=(0.1, 0.2))
        first, second = [each.weight for each in head.heads]
        assert float(first.detach().std()) == pytest.approx(0.01, rel=0.03)
        assert not torch.equal(first, second)
        assert not any(each.bias.any() for each in head.heads)

    def test_loss_scaling_is_refused(self) -> None:
        model = OnFeatures(SweepHead(8, 5))
        with pytest.raises(UserError, match='Leave --amp out'):
            HeadOptimWrapperConstructor(
                dict(type='AmpOptimWrapper', dtype='float16', optimizer=SGD)
            )(model)


class TestLars:
    def test_rule_of_mae(self) -> None:
        """facebookresearch/mae, util/lars.py, restated: trust on weights, none on biases."""
        torch.manual_seed(0)
        head: Any = ClassHead(8, 5, std=0.01)
        weight, bias = (p.detach().clone().requires_grad_() for p in head.linear.parameters())
        buffers = [torch.zeros_like(weight), torch.zeros_like(bias)]
        for features, targets in batches(20):
            loss = F.cross_entropy(F.linear(features, weight, bias), targets)
            gradients = torch.autograd.grad(loss, [weight, bias])
            with torch.no_grad():
                trust = 0.001 * weight.norm() / gradients[0].norm()
                for value, buffer, step in (
                    (weight, buffers[0], gradients[0] * trust),
                    (bias, buffers[1], gradients[1]),
                ):
                    buffer.mul_(0.9).add_(step)
                    value -= 0.4 * buffer
        trained(head, LARS, 20)
        torch.testing.assert_close(head.linear.weight, weight, rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(head.linear.bias, bias, rtol=1e-6, atol=1e-8)

    def test_one_group_would_not_do(self) -> None:
        """What timm does by itself: no trust at all without weight decay."""
        torch.manual_seed(0)
        head: Any = ClassHead(8, 5)
        wrapper = HeadOptimWrapperConstructor(dict(optimizer=LARS))(OnFeatures(head))
        adapts = [group['always_adapt'] for group in wrapper.optimizer.param_groups]
        assert adapts == [True, False]


class TestClassHead:
    def test_starts(self) -> None:
        torch.manual_seed(0)
        probe: Any = ClassHead(400, 50, std=0.01)
        tuned: Any = ClassHead(400, 50, norm='layer', std=2e-5)
        assert float(probe.linear.weight.detach().std()) == pytest.approx(0.01, rel=0.03)
        assert float(tuned.linear.weight.detach().std()) == pytest.approx(2e-5, rel=0.05)
        assert bool((tuned.norm.weight == 1).all())
        assert not tuned.norm.bias.any()
        assert tuned.norm.eps == 1e-6

    def test_batch_norm_of_the_probe(self) -> None:
        head: Any = ClassHead(8, 5, norm='batch')
        assert not [*head.norm.parameters()]
        assert (head.norm.eps, head.norm.momentum) == (1e-6, 0.1)
        assert not isinstance(head.norm, nn.SyncBatchNorm)
        features = 3 + 2 * batches(1)[0][0]
        head(features)
        assert float(head.norm.running_mean.mean()) == pytest.approx(
            0.1 * float(features.mean()), rel=1e-4
        )
        before = head.norm.running_mean.clone()
        head.eval()
        head(features)
        assert torch.equal(head.norm.running_mean, before)

    @pytest.mark.parametrize('classes', [None, 1, 0.5])
    def test_numbers_of_classes(self, classes: Any) -> None:
        with pytest.raises(UserError, match=r'model\.head\.num_classes'):
            ClassHead(8, classes)


class TestGroups:
    def test_of_a_vit_base_are_timms(self) -> None:
        """Scales and decays are those of `timm.optim.param_groups_layer_decay`."""
        with torch.device('meta'):
            backbone = PlainViT('vit_base_patch16', img_size=224, final_norm=False)
            backbone.norm = nn.Identity()
            model = nn.Module()
            model.add_module('backbone', backbone)
            model.add_module('head', ClassHead(768, 10, norm='layer', std=2e-5))
            theirs = VisionTransformer(num_classes=10, global_pool='avg', class_token=True)
        constructor = LayerDepthOptimWrapperConstructor(
            dict(optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.05)),
            dict(layer_decay=0.65, no_decay_names=['pos_embed', 'cls_token']),
        )
        ours = {
            name: (group['lr'], group['weight_decay'])
            for group in constructor.parameter_groups(model)
            for name in group['param_names']
        }
        names = {id(parameter): name for name, parameter in theirs.named_parameters()}
        groups = param_groups_layer_decay(
            theirs, 0.05, no_weight_decay_list=theirs.no_weight_decay(), layer_decay=0.65
        )
        reference = {
            names[id(parameter)]: (group['lr_scale'], group['weight_decay'])
            for group in groups
            for parameter in group['params']
        }
        renamed = {
            name.removeprefix('backbone.')
            .replace('head.norm.', 'fc_norm.')
            .replace('head.linear.', 'head.'): value
            for name, value in ours.items()
        }
        assert renamed.keys() == reference.keys()
        for name, (scale, decay) in reference.items():
            assert renamed[name] == (pytest.approx(scale, rel=1e-9), decay), name
        assert len({*ours.values()}) == len(groups) == 28
        assert min(scale for scale, _ in ours.values()) == pytest.approx(0.003697, rel=1e-3)
        assert ours['backbone.pos_embed'][1] == ours['backbone.cls_token'][1] == 0.0


def runner_of(lr: float, batch: int, accumulate: int, epochs: int, steps: int) -> Any:
    parameters = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.SGD(
        [dict(params=[parameters[0]], lr=lr * 0.0037), dict(params=[parameters[1]], lr=lr)], lr=lr
    )
    return SimpleNamespace(
        model=SimpleNamespace(seed=0, step=0),
        cfg=SimpleNamespace(optim_wrapper=ConfigDict(optimizer=dict(lr=lr))),
        optim_wrapper=OptimWrapper(optimizer),
        train_loop=SimpleNamespace(max_epochs=epochs, steps=steps, accumulate=accumulate),
        train_dataloader=SimpleNamespace(batch_size=batch),
        logger=getLogger('test'),
        seed=0,
        iter=0,
    )


class TestRates:
    @pytest.mark.parametrize(('batch', 'accumulate'), [(1024, 1), (128, 8)])
    def test_the_whole_batch_counts(self, batch: int, accumulate: int) -> None:
        runner = runner_of(1e-3, batch, accumulate, epochs=100, steps=10)
        schedule = RateSchedule()
        schedule.before_run(runner)
        schedule.before_train(runner)
        assert schedule.peak == pytest.approx(4e-3)

    def test_the_lowest_rate_is_scaled_by_layer(self) -> None:
        runner = runner_of(1e-3, 1024, 1, epochs=100, steps=1000)
        schedule = RateSchedule(warmup_epochs=5, min_lr=1e-6)
        schedule.before_run(runner)
        schedule.before_train(runner)

        def rates(step: int) -> list[float]:
            runner.iter = step
            schedule.before_train_iter(runner, step)
            return [group['lr'] for group in runner.optim_wrapper.optimizer.param_groups]

        assert rates(0) == [0.0, 0.0]
        assert rates(2500) == pytest.approx([2e-3 * 0.0037, 2e-3])
        assert rates(5000) == pytest.approx([4e-3 * 0.0037, 4e-3])
        assert rates(99_999) == pytest.approx([1e-6 * 0.0037, 1e-6], rel=1e-4)
        half = 1e-6 + (4e-3 - 1e-6) / 2 * (1 + math.cos(math.pi * 47.5 / 95))
        assert rates(52_500)[1] == pytest.approx(half)

    def test_once_an_epoch(self) -> None:
        runner = runner_of(1.0, 256, 1, epochs=4, steps=10)
        schedule = RateSchedule(per_epoch=True)
        schedule.before_run(runner)
        schedule.before_train(runner)
        seen = []
        for runner.iter in (0, 9, 10, 39):
            schedule.before_train_iter(runner, runner.iter)
            seen.append(runner.optim_wrapper.param_groups[1]['lr'])
        quarter = [(1 + math.cos(math.pi * epoch / 4)) / 2 for epoch in (0, 0, 1, 3)]
        assert seen == pytest.approx(quarter)

    def test_a_warmup_as_long_as_the_training_is_refused(self) -> None:
        runner = runner_of(1.0, 256, 1, epochs=5, steps=10)
        schedule = RateSchedule(warmup_epochs=5)
        schedule.before_run(runner)
        with pytest.raises(UserError, match='warmup_epochs=5'):
            schedule.before_train(runner)

    def test_closed_form(self) -> None:
        assert epoch_rate(2.5, 4.0, 100, warmup=5) == 2.0
        assert epoch_rate(100, 4.0, 100, warmup=5, lowest=1e-6) == pytest.approx(1e-6)
