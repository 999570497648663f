"""The replays of recorded training, on recordings that timm and plain torch make here."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from tests import replay_eval_finetune, replay_eval_linear
from tests.backbone.helpers import TINY, randomize, timm_vit
from tests.checkpoints import families

CLASSES, BATCH, STEPS, EPOCHS = 3, 4, 2, 3
Recording = tuple[dict[str, Any], dict[str, Tensor]]


def right(logits: Tensor, labels: Tensor) -> tuple[int, int]:
    """How many are right at the first and within five, which are all classes here."""
    return int((logits.argmax(1) == labels).sum()), len(labels)


def record_linear() -> Recording:
    """Two heads, each by SGD with momentum written out."""
    generator = torch.Generator().manual_seed(0)
    tensors = {
        'linear.avg.train': torch.randn(STEPS * BATCH, 6, generator=generator),
        'linear.avg.query': torch.randn(5, 6, generator=generator),
        'train.labels': torch.arange(STEPS * BATCH) % CLASSES,
        'query.labels': torch.arange(5) % CLASSES,
    }
    order = [torch.randperm(STEPS * BATCH, generator=generator) for _ in range(EPOCHS)]
    batches = [[part.tolist() for part in each.split(BATCH)] for each in order]
    rates = [2.0, 0.5]  # the larger one first
    log: list[dict[str, Any]] = [{'heads': []} for _ in range(EPOCHS)]
    for number, base in enumerate(rates):
        weight = 0.01 * torch.randn(CLASSES, 6, generator=generator)
        pair = [weight.requires_grad_(), torch.zeros(CLASSES, requires_grad=True)]
        moments = [torch.zeros_like(value) for value in pair]
        name = f'linear.head{number}'
        tensors |= {
            f'{name}.init.{p}': v.detach().clone() for p, v in zip(PARTS, pair, strict=True)
        }
        for epoch in range(EPOCHS):
            rate = base * BATCH / 256 * (1 + math.cos(math.pi * epoch / EPOCHS)) / 2
            total = 0.0
            for batch in batches[epoch]:
                logits = F.linear(tensors['linear.avg.train'][batch], *pair)
                loss = F.cross_entropy(logits, tensors['train.labels'][batch])
                total += float(loss.detach())
                with torch.no_grad():
                    for value, moment, gradient in zip(
                        pair, moments, torch.autograd.grad(loss, pair), strict=True
                    ):
                        moment.mul_(0.9).add_(gradient)
                        value -= rate * moment
            first, five = right(
                F.linear(tensors['linear.avg.query'], *pair), tensors['query.labels']
            )
            log[epoch]['heads'].append(
                dict(lr=rate, loss=total / STEPS, test_top1=first, test_top5=five)
            )
            tensors |= {
                f'{name}.epoch{epoch}.{p}': v.detach().clone()
                for p, v in zip(PARTS, pair, strict=True)
            }
    said = dict(feature='avg', base_lr=rates, batch_size=BATCH, epochs=EPOCHS, momentum=0.9)
    return dict(
        classes=CLASSES, linear=dict(said, weight_decay=0, batches=batches, log=log)
    ), tensors


PARTS = ('weight', 'bias')


def record_finetune() -> Recording:
    """timm's classifier of the mean token, by torch's AdamW with a group for each parameter."""
    depth, warmup, lowest, base, decay = TINY['depth'], 1, 1e-4, 0.64, 0.65
    teacher = timm_vit(TINY)
    state = families.moca(teacher, timm_vit(TINY, 1))['model']
    tensors = {f'state.{key}': value for key, value in state.items()}
    model = VisionTransformer(**TINY, num_classes=CLASSES, global_pool='avg')
    randomize(model, 2)
    head = {
        k: v.clone() for k, v in model.state_dict().items() if k.startswith(('head', 'fc_norm'))
    }
    own = {k: v.clone() for k, v in teacher.state_dict().items() if not k.startswith('norm.')}
    model.load_state_dict(own | head)
    tensors |= {f'finetune.init.{key}': value for key, value in head.items()}
    generator = torch.Generator().manual_seed(0)
    queries = torch.randint(256, (5, 32, 32, 3), generator=generator, dtype=torch.uint8)
    labels = torch.arange(5) % CLASSES
    tensors |= {'query.images': queries, 'query.labels': labels}
    for step in range(STEPS):
        pixels = torch.randint(256, (BATCH, 32, 32, 3), generator=generator, dtype=torch.uint8)
        soft = torch.rand(BATCH, CLASSES, generator=generator)
        tensors[f'finetune.step{step}.images'] = pixels
        tensors[f'finetune.step{step}.targets'] = soft / soft.sum(1, keepdim=True)

    def logits(pixels: Tensor) -> Tensor:
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        found: Tensor = model(((pixels / 255 - mean) / std).permute(0, 3, 1, 2))
        return found

    groups: dict[str, dict[str, float]] = {}
    for name, value in model.named_parameters():
        layer = depth + 1 if name.startswith(('head', 'fc_norm')) else 0
        layer = int(name.split('.')[1]) + 1 if name.startswith('blocks.') else layer
        flat = value.ndim == 1 or name in ('pos_embed', 'cls_token')
        groups[name] = dict(
            lr_scale=decay ** (depth + 1 - layer), weight_decay=0.0 if flat else 0.05
        )
    named = dict(model.named_parameters())
    optimizer = torch.optim.AdamW(
        [dict(params=[named[n]], weight_decay=g['weight_decay']) for n, g in groups.items()],
        betas=(0.9, 0.95),
    )
    log, evaluations, norms = [], [], {}
    tensors['finetune.init_logits'] = logits(queries).detach()
    peak = base * BATCH / 256
    for step in range(STEPS * EPOCHS):
        epoch = step / STEPS
        rate = peak * epoch / warmup
        if epoch >= warmup:
            share = (epoch - warmup) / (EPOCHS - warmup)
            rate = lowest + (peak - lowest) * (1 + math.cos(math.pi * share)) / 2
        for group, about in zip(optimizer.param_groups, groups.values(), strict=True):
            group['lr'] = rate * about['lr_scale']
        place = f'finetune.step{step % STEPS}'
        answer = logits(tensors[f'{place}.images']).log_softmax(1)
        loss = -(tensors[f'{place}.targets'] * answer).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            norms = {name: float(value.grad.norm()) for name, value in named.items()}
        optimizer.step()
        log.append(dict(lr=rate, loss=float(loss.detach())))
        if (step + 1) % STEPS == 0:
            found = logits(queries).detach()
            evaluations.append(dict(zip(('top1', 'top5'), right(found, labels), strict=True)))
        for when, at in (('after', STEPS), ('last', STEPS * EPOCHS)):
            if step + 1 == at:
                tensors[f'finetune.{when}_logits'] = logits(queries).detach()
                tensors |= {f'finetune.{when}.{n}': v.detach().clone() for n, v in named.items()}
    said = dict(
        **dict(batch_size=BATCH, epochs=EPOCHS, warmup_epochs=warmup, blr=base, min_lr=lowest),
        **dict(layer_decay=decay, weight_decay=0.05, iterations=STEPS * EPOCHS, steps=STEPS),
        **dict(betas=[0.9, 0.95], eps=1e-8, drop_path=0.0, groups=groups, lr_groups={}, log=log),
        parameter_groups=len({(*g.values(),) for g in groups.values()}),
        evaluations=evaluations,
        step0_gradient_norms=norms,
    )
    return dict(classes=CLASSES, model={**TINY, 'mlp_ratio': 4}, finetune=said), tensors


@pytest.fixture(scope='module')
def linear() -> Recording:
    return record_linear()


@pytest.fixture(scope='module')
def finetune() -> Recording:
    return record_finetune()


def beyond(replay: Any, settings: dict[str, Any], tensors: dict[str, Tensor]) -> list[str]:
    checks = replay.replay(settings, tensors)
    assert len(checks) > 20
    return [name for name, error, limit in checks if not error <= limit]


def test_linear_heads(linear: Recording) -> None:
    assert beyond(replay_eval_linear, *linear) == []


def test_fine_tuning(finetune: Recording) -> None:
    assert beyond(replay_eval_finetune, *finetune) == []


@pytest.mark.parametrize('change', [dict(momentum=0.8), dict(batch_size=8), dict(epochs=4)])
def test_faults_of_linear_heads_are_seen(linear: Recording, change: dict[str, Any]) -> None:
    settings, tensors = linear
    assert beyond(replay_eval_linear, {**settings, 'linear': settings['linear'] | change}, tensors)


@pytest.mark.parametrize(
    'change',
    [dict(layer_decay=0.75), dict(weight_decay=0.1), dict(betas=[0.9, 0.999]), dict(min_lr=0.001)],
)
def test_faults_of_fine_tuning_are_seen(finetune: Recording, change: dict[str, Any]) -> None:
    settings, tensors = finetune
    changed = {**settings, 'finetune': settings['finetune'] | change}
    assert beyond(replay_eval_finetune, changed, tensors)


def test_the_student_is_recognized(finetune: Recording) -> None:
    settings, tensors = finetune
    swapped = {
        key.replace('encoder_teacher.', 'x.').replace('encoder.', 'encoder_teacher.')
        .replace('state.x.', 'state.encoder.'): value
        for key, value in tensors.items()
    }  # fmt: skip
    assert any('logits' in name for name in beyond(replay_eval_finetune, settings, swapped))
