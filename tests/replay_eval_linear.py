"""Replay the recorded sweep of linear heads through the head, optimizer and schedule of a run."""

from __future__ import annotations

from collections.abc import Mapping
from logging import getLogger
from types import SimpleNamespace
from typing import Any

import torch
from mmengine.config import ConfigDict
from torch import Tensor, nn

from moca.engine.rate_schedule import RateSchedule
from moca.evaluation.classification.accuracy import ClassAccuracy
from moca.evaluation.classification.heads import SweepHead
from moca.evaluation.classification.optim import HeadOptimWrapperConstructor

Check = tuple[str, float, float]
"""What was compared, its error and the limit of that."""


class OnFeatures(nn.Module):
    """A head without a backbone, as the constructor of its optimizer finds it in a classifier."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head


def replay(settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> list[Check]:
    """Train the recorded heads on the recorded features and batches, and compare.

    Args:
        settings: The recording's JSON.
        tensors: Its tensors.
    """
    said = settings['linear']
    train = tensors[f'linear.{said["feature"]}.train']
    labels = tensors['train.labels']
    order = sorted(range(len(said['base_lr'])), key=lambda number: said['base_lr'][number])
    rates = [said['base_lr'][number] for number in order]
    head = SweepHead(train.shape[1], settings['classes'], rates=rates)
    model = OnFeatures(head)
    for layer, number in zip(head.heads, order, strict=True):
        layer.load_state_dict(_recorded(tensors, number, 'init'))
    steps = len(said['batches'][0])
    runner = run_of(
        model,
        dict(
            type='SGD',
            lr=1.0,
            momentum=said['momentum'],
            weight_decay=said['weight_decay'],
        ),
        HeadOptimWrapperConstructor,
        SimpleNamespace(max_epochs=said['epochs'], steps=steps, accumulate=1),
        said['batch_size'],
    )
    schedule = started(RateSchedule(per_epoch=True), runner)
    checks: list[Check] = []
    for epoch, batches in enumerate(said['batches']):
        losses = torch.zeros(len(head.rates), dtype=torch.float64)
        for batch in batches:
            schedule.before_train_iter(runner, 0)
            features, targets = train[batch], labels[batch]
            with torch.no_grad():
                each = head(features)
                losses += torch.stack(
                    [nn.functional.cross_entropy(logits, targets) for logits in each]
                )
            runner.optim_wrapper.update_params(head.losses(features, targets)['loss'])
            runner.iter += 1
        logged = said['log'][epoch]['heads']
        counts = _right(head, settings, tensors)
        for index, number in enumerate(order):
            row, name = logged[number], f'linear epoch {epoch} head {number}'
            rate = runner.optim_wrapper.param_groups[index]['lr']
            checks.append((f'{name} rate', _relative(rate, row['lr']), 1e-6))
            loss = float(losses[index]) / len(batches)
            checks.append((f'{name} loss', _relative(loss, row['loss']), 1e-5))
            for place, key in enumerate(('test_top1', 'test_top5')):
                checks.append((f'{name} {key}', abs(counts[place][index] - row[key]), 0.0))
        if f'linear.head0.epoch{epoch}.weight' in tensors:
            for layer, number in zip(head.heads, order, strict=True):
                checks += _weights(layer, tensors, number, epoch)
    return checks


def run_of(
    model: nn.Module,
    optimizer: dict[str, Any],
    constructor: Any,
    loop: Any,
    batch: int,
    **keys: Any,
) -> Any:
    """What a `RateSchedule` asks of a runner."""
    wrapper = constructor(dict(optimizer=optimizer), keys)(model)
    return SimpleNamespace(
        model=model,
        cfg=SimpleNamespace(optim_wrapper=ConfigDict(optimizer=optimizer)),
        optim_wrapper=wrapper,
        train_loop=loop,
        train_dataloader=SimpleNamespace(batch_size=batch),
        logger=getLogger('replay'),
        seed=0,
        iter=0,
    )


def started(schedule: RateSchedule, runner: Any) -> RateSchedule:
    """A schedule that has seen the beginning of a run."""
    schedule.before_run(runner)
    schedule.before_train(runner)
    return schedule


def _recorded(tensors: Mapping[str, Tensor], number: int, when: str) -> dict[str, Tensor]:
    return {part: tensors[f'linear.head{number}.{when}.{part}'] for part in ('weight', 'bias')}


def _weights(
    layer: nn.Module, tensors: Mapping[str, Tensor], number: int, epoch: int
) -> list[Check]:
    found = []
    first, last = (_recorded(tensors, number, when) for when in ('init', f'epoch{epoch}'))
    for part, ours in layer.state_dict().items():
        error = float((ours - last[part]).norm() / (last[part] - first[part]).norm())
        found.append((f'linear epoch {epoch} head {number} {part}', error, 1e-4))
    return found


def _right(
    head: SweepHead, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> list[list[int]]:
    """How many queries each head has right at the first and within five, by the tools' metric."""
    labels = tensors['query.labels']
    with torch.no_grad():
        logits = head(tensors[f'linear.{settings["linear"]["feature"]}.query'])
    metric = ClassAccuracy()
    samples = [{'logits': logits[:, index]} for index in range(len(labels))]
    metric.process({'label': labels}, samples)
    return [
        [int(count) for count in torch.tensor([r[place].tolist() for r in metric.results]).sum(0)]
        for place in (0, 1)
    ]


def _relative(ours: float, theirs: float) -> float:
    return abs(ours - theirs) / max(abs(theirs), 1e-30)
