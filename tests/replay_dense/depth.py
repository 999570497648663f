"""DINOv3's linear depth from recorded features: head, loss, schedule, metrics, padding."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from moca.depth.estimator import pad_centered
from moca.depth.head import LinearDepthHead
from moca.depth.metrics import CheckedDepthMetric
from moca.engine.schedules import depth_momentum, depth_rate
from tests.replay_dense.report import Report

METRICS = {
    'a1': 'd1',
    'a2': 'd2',
    'a3': 'd3',
    'abs_rel': 'abs_rel',
    'rmse': 'rmse',
    'log_10': 'log10',
    'rmse_log': 'rmse_log',
    'sq_rel': 'sq_rel',
}
"""The source's metrics and mmseg's. Its ``silog`` is another one, and mmseg has no ``mae``."""


def replay(facts: dict[str, Any], tensors: dict[str, Tensor], report: Report) -> None:
    """Replay everything that is recorded."""
    replay_training(facts, tensors, report)
    replay_schedule(facts, report)
    replay_metrics(facts, tensors, report)
    for case in facts['centre_padding']:
        height, width = case['size']
        padded = pad_centered(torch.ones(1, 3, height, width), case['patch'])
        report.number('padding', 0.0, padded.shape[2], case['padded'][0], str(case))
        report.number('padding', 0.0, padded.shape[3], case['padded'][1], str(case))
        top, left = (int(padded[0, 0].amax(dim).argmax()) for dim in (1, 0))
        report.number('padding', 0.0, top, case['top'], str(case))
        report.number('padding', 0.0, left, case['left'], str(case))
        report.number('padding', 0.0, float(padded[0, 0, 0, 0]), case['outside'], str(case))


def head_of(facts: dict[str, Any], tensors: dict[str, Tensor], warmup: int = 100) -> Any:
    """Our head with the recorded weights."""
    settings = facts['settings']
    head = LinearDepthHead(
        settings['D'],
        dict(type='SigLoss', warmup=warmup),
        bins=settings['bins'],
        max_depth=settings['max'],
        norm_cfg=dict(type='BN'),
    )
    names = {'norm': 'batchnorm_layer', 'conv': 'conv_depth'}
    for part, recorded in names.items():
        prefix = f'state.{recorded}.'
        state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        getattr(head, part).load_state_dict(state)
    return head


def replay_training(facts: dict[str, Any], tensors: dict[str, Tensor], report: Report) -> None:
    """Forward and backward passes in training, and the predictions after one."""
    head, features = head_of(facts, tensors), [tensors['features']]
    samples = [SimpleNamespace(gt_depth_map=SimpleNamespace(data=d)) for d in tensors['depth']]
    loss = head.loss(features, samples)['loss_depth']
    report.number('loss', 1e-5, loss.item(), facts['loss_warm_up'], 'warm-up')
    loss.backward()
    for name, ours in (
        ('batchnorm_weight', head.norm.weight),
        ('weight', head.conv.weight),
        ('bias', head.conv.bias),
    ):
        report.close('gradients', 1e-5, ours.grad, tensors[f'train.gradient.{name}'], name)
    for name in ('running_mean', 'running_var'):
        theirs = tensors[f'state_after_one_forward.{name}']
        report.close('statistics', 1e-5, getattr(head.norm, name), theirs, name)
    with torch.no_grad():
        evaluated = head.eval()(features)
        mirrored = head([tensors['features'].flip(3)])
        report.close('depth', 1e-5, evaluated, tensors['eval.depth_grid'], 'eval')
        theirs = tensors['eval.depth_grid_of_mirrored_features']
        report.close('depth', 1e-5, mirrored, theirs, 'mirrored')
        head = head_of(facts, tensors)
        report.close('logits', 1e-5, head.logits(features), tensors['train.logits_grid'], 'train')
        report.close('depth', 1e-5, head(features), tensors['train.depth_grid'], 'train')
        size = tensors['depth'].shape[2:]
        ours = head.enlarged(features, size)
        report.close('depth', 1e-5, ours, tensors['loss.prediction'], 'enlarged')
    replay_loss(facts, tensors, report)


def replay_loss(facts: dict[str, Any], tensors: dict[str, Tensor], report: Report) -> None:
    """The k-th call with the same arguments."""
    loss = head_of(facts, tensors).loss_decode
    prediction = tensors['loss.prediction'].requires_grad_()
    wanted = {int(call): value for call, value in facts['loss_by_call'].items()}
    for call in range(1, max(wanted) + 1):
        value = loss(prediction, tensors['depth'])
        if call in wanted:
            report.number('loss', 1e-5, value.item(), wanted[call], f'call {call}')
    value = loss(prediction, tensors['depth'])
    report.number('loss', 1e-5, value.item(), facts['loss_with_variance'], 'with variance')
    (gradient,) = torch.autograd.grad(value, prediction)
    report.close('gradients', 1e-5, gradient, tensors['loss.gradient_with_variance'], 'prediction')


def replay_schedule(facts: dict[str, Any], report: Report) -> None:
    """Learning rate and first beta of every recorded step."""
    for name, key in (('schedule', 'by_iteration'), ('schedule_published', 'rows')):
        about = facts[name]
        for row in about[key]:
            step = (row['t'], about['T'], about['warmup'])
            rate, where = about['max_lr'] * depth_rate(*step), f'{name}, t = {row["t"]}'
            report.number('learning rate', 1e-9, rate / row['lr'], 1.0, where)
            report.number('beta', 1e-9, depth_momentum(*step), row['beta1'], where)


def replay_metrics(facts: dict[str, Any], tensors: dict[str, Tensor], report: Report) -> None:
    """Errors of each image, by mmseg's metric, and their mean."""
    largest = facts['settings']['max']
    prediction = tensors['loss.prediction'].detach().clamp(1e-3, largest)
    metric = CheckedDepthMetric(min_depth_eval=1e-3, max_depth_eval=largest, prefix='depth')
    recorded = facts['metrics']
    for index, (ours, truth) in enumerate(zip(prediction, tensors['depth'], strict=True)):
        sample = dict(pred_depth_map=dict(data=ours), gt_depth_map=dict(data=truth), img_path='')
        metric.process({}, [sample])
        one = metric._calc_all_metrics(*metric.results[-1])
        for name, mmsegs in METRICS.items():
            theirs = recorded['per_picture'][index][name]
            report.number('metrics', 1e-5, one[mmsegs], theirs, f'{name} of {index}')
    logging.disable(logging.INFO)  # its table
    mean = metric.compute_metrics(metric.results)
    logging.disable(logging.NOTSET)
    for name, mmsegs in METRICS.items():
        report.number('metrics', 1e-5, mean[mmsegs], recorded['mean'][name], name)
