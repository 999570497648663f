"""Replay the recorded fine-tuning through the classifier, optimizer and schedule of a run."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from moca.engine.layer_decay import LayerDepthOptimWrapperConstructor
from moca.engine.rate_schedule import RateSchedule
from moca.evaluation.classification.accuracy import ClassAccuracy
from moca.evaluation.classification.classifier import ImageClassifier
from tests.replay_eval_linear import Check, run_of, started

_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def replay(settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> list[Check]:
    """Fine-tune the recorded checkpoint on the recorded inputs and targets, and compare.

    Args:
        settings: The recording's JSON.
        tensors: Its tensors.
    """
    said = settings['finetune']
    model = classifier(settings, tensors)
    runner = run_of(
        model,
        dict(
            type='AdamW',
            lr=said['blr'],
            betas=tuple(said['betas']),
            eps=said['eps'],
            weight_decay=said['weight_decay'],
        ),
        LayerDepthOptimWrapperConstructor,
        SimpleNamespace(max_epochs=said['epochs'], steps=said['steps'], accumulate=1),
        said['batch_size'],
        layer_decay=said['layer_decay'],
        no_decay_names=['pos_embed', 'cls_token'],
    )
    schedule = started(
        RateSchedule(warmup_epochs=said['warmup_epochs'], min_lr=said['min_lr']), runner
    )
    checks = _groups(runner, said)
    names = dict(model.named_parameters())
    start = {key: value.detach().clone() for key, value in names.items()}
    checks.append(('finetune init logits', _error(*_logits(model, tensors, 'init')), 1e-5))
    for step in range(said['iterations']):
        runner.iter = step
        schedule.before_train_iter(runner, step)
        checks += _rates(runner, said, step)
        place = f'finetune.step{step % said["steps"]}'
        batch = dict(
            inputs=_channels_first(tensors[f'{place}.images']), label=tensors[f'{place}.targets']
        )
        if step == 0:
            checks += _gradients(model, batch, said['step0_gradient_norms'])
        loss = model.train_step(batch, runner.optim_wrapper)['loss'].detach()
        checks.append(
            (f'finetune step {step} loss', _relative(float(loss), said['log'][step]['loss']), 1e-5)
        )
        if (step + 1) % said['steps'] == 0:
            epoch = step // said['steps']
            checks += _answers(model, tensors, said['evaluations'][epoch], epoch)
        for when, at in (('after', said['steps']), ('last', said['iterations'])):
            if step + 1 == at:
                checks += _weights(names, start, tensors, when)
                logits = _logits(model, tensors, when)
                checks.append((f'finetune {when} logits', _error(*logits), 1e-5))
    return checks


def classifier(settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> ImageClassifier:
    """The model of a run: its backbone the recorded teacher, its head as recorded."""
    about = settings['model']
    keys = ('img_size', 'patch_size', 'embed_dim', 'depth', 'num_heads', 'mlp_ratio')
    state = {k.removeprefix('state.'): v for k, v in tensors.items() if k.startswith('state.')}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'recorded.pth'
        torch.save({'model': state}, path)
        model = ImageClassifier(
            backbone=dict(
                type='PlainViT',
                arch={key: about[key] for key in keys},
                img_size=about['img_size'],
                final_norm=False,
                drop_path_rate=settings['finetune']['drop_path'],
                init_cfg=dict(type='ViTCheckpoint', checkpoint=str(path), branch='teacher'),
            ),
            head=dict(type='ClassHead', num_classes=settings['classes'], norm='layer', std=2e-5),
            data_preprocessor=dict(type='NormalizedImages', mean=_MEAN, std=_STD),
        )
        model.init_weights()
    head = {name: tensors[f'finetune.init.{theirs}'] for name, theirs in _head_names(tensors)}
    model.head.load_state_dict(head)
    return model


def _head_names(tensors: Mapping[str, Tensor]) -> list[tuple[str, str]]:
    parts = {'fc_norm': 'norm', 'head': 'linear'}
    found = []
    for key in tensors:
        if key.startswith('finetune.init.'):
            name = key.removeprefix('finetune.init.')
            part, _, last = name.partition('.')
            found.append((f'{parts[part]}.{last}', name))
    return found


def _released(name: str) -> str:
    """The released code's name of one of our parameters."""
    for ours, theirs in (('backbone.', ''), ('head.norm.', 'fc_norm.'), ('head.linear.', 'head.')):
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name


def _groups(runner: Any, said: Mapping[str, Any]) -> list[Check]:
    base = said['blr']
    groups = runner.optim_wrapper.optimizer.param_groups
    checks: list[Check] = [
        ('finetune parameter groups', abs(len(groups) - said['parameter_groups']), 0.0)
    ]
    seen = set()
    for group in groups:
        for name in map(_released, group['param_names']):
            seen.add(name)
            wanted = said['groups'].get(name, {'lr_scale': -1, 'weight_decay': -1})
            scale = _relative(group['lr'] / base, wanted['lr_scale'])
            decay = abs(group['weight_decay'] - wanted['weight_decay'])
            checks.append((f'finetune {name} scale', scale, 1e-9))
            checks.append((f'finetune {name} weight decay', decay, 0.0))
    checks.append(('finetune trained parameters', len(seen ^ set(said['groups'])), 0.0))
    return checks


def _rates(runner: Any, said: Mapping[str, Any], step: int) -> list[Check]:
    groups = runner.optim_wrapper.param_groups
    top = max(group['lr'] for group in groups)
    checks = [(f'finetune step {step} rate', _relative(top, said['log'][step]['lr']), 1e-6)]
    for text, wanted in said['lr_groups'].get(str(step), {}).items():
        nearest = min((_relative(group['lr'], wanted) for group in groups), default=1.0)
        checks.append((f'finetune step {step} rate at {text}', nearest, 1e-6))
    return checks


def _gradients(
    model: ImageClassifier, batch: dict[str, Any], wanted: Mapping[str, float]
) -> list[Check]:
    model.train()
    data = model.data_preprocessor(batch, True)
    model(**data, mode='loss')['loss'].backward()
    found = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None
            norm, released = float(parameter.grad.norm()), _released(name)
            error = _relative(norm, wanted[released])
            found.append((f'finetune gradient of {released}', error, 1e-5))
    model.zero_grad()
    return found


def _logits(
    model: ImageClassifier, tensors: Mapping[str, Tensor], when: str
) -> tuple[Tensor, Tensor]:
    model.eval()
    batch = dict(inputs=_channels_first(tensors['query.images']), label=tensors['query.labels'])
    with torch.no_grad():
        found = torch.cat([sample['logits'] for sample in model.val_step(batch)])
    model.train()
    return found, tensors[f'finetune.{when}_logits']


def _answers(
    model: ImageClassifier, tensors: Mapping[str, Tensor], wanted: Mapping[str, int], epoch: int
) -> list[Check]:
    labels = tensors['query.labels']
    logits, _ = _logits(model, tensors, 'init')
    metric = ClassAccuracy()
    metric.process({'label': labels}, [{'logits': row[None]} for row in logits])
    found = metric.compute_metrics(metric.results)
    return [
        (f'finetune epoch {epoch} {k}', abs(round(found[k] * len(labels) / 100) - wanted[k]), 0.0)
        for k in ('top1', 'top5')
    ]


def _weights(
    names: Mapping[str, Tensor],
    start: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    when: str,
) -> list[Check]:
    found = []
    for name, ours in names.items():
        key = f'finetune.{when}.{_released(name)}'
        if key not in tensors:
            continue
        values = [value.detach() for value in (ours, tensors[key], start[name])]
        if name.endswith('qkv.bias'):  # the true gradient of the keys' is zero
            width = len(values[0]) // 3
            values = [torch.cat([value[:width], value[2 * width :]]) for value in values]
        mine, theirs, first = values
        error = float((mine - theirs).norm() / (theirs - first).norm())
        found.append((f'finetune {when} {_released(name)}', error, 1e-3))
    return found


def _channels_first(images: Tensor) -> Tensor:
    return images.permute(0, 3, 1, 2).contiguous()


def _error(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


def _relative(ours: float, theirs: float) -> float:
    return abs(ours - theirs) / abs(theirs) if theirs else abs(ours)
