"""EoMT: network, losses, gradients, optimization, windows, segments and panoptic quality."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import mmcv
import numpy as np
import torch
from mmdet.models.seg_heads import MaskFormerFusionHead
from mmdet.structures import INSTANCE_OFFSET
from mmengine.structures import InstanceData
from torch import Tensor, nn

from moca.backbone import PlainViT
from moca.detection.mask_transformer import at_own_size
from moca.detection.panoptic_quality import count_matches, quality
from moca.eomt.annealing import mask_prob
from moca.eomt.loss import MaskLoss
from moca.eomt.network import MaskTransformer
from moca.eomt.optim import MaskTransformerOptimWrapperConstructor, TwoPartPolyLR
from moca.eomt.windows import class_scores, merge, windows_of
from tests.replay_dense.report import Report

Tensors = dict[str, Tensor]
CASES = ('p1', 'mixed', 'eval_p0', 'eval_plain')
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Holder(nn.Module):
    """What a segmentor is for the optimizer's constructor: something with a network."""

    def __init__(self, network: MaskTransformer) -> None:
        super().__init__()
        self.network = network


@contextmanager
def drawn(numbers: Sequence[Tensor]) -> Iterator[None]:
    """Let `torch.rand` return recorded numbers, one after the other."""
    left = list(numbers)

    def rand(*shape: Any, **_: Any) -> Tensor:
        wanted = tuple(shape[0]) if isinstance(shape[0], tuple | list | torch.Size) else shape
        number = left.pop(0)
        if tuple(number.shape) != tuple(wanted):
            raise ValueError(f'drew {tuple(wanted)} where {tuple(number.shape)} was recorded')
        return number

    with mock.patch.object(torch, 'rand', rand):
        yield
    if left:
        raise ValueError(f'{len(left)} recorded numbers were not drawn')


def replay(facts: dict[str, Any], tensors: Tensors, report: Report) -> None:
    """Replay everything that a recording has."""
    models = facts['settings']['models']
    for name in models:
        replay_forward(name, facts, tensors, report)
        for loss in ('loss', 'loss_empty'):
            if f'{name}.{loss}' in facts:
                replay_loss(name, loss, facts, tensors, report)
    replay_groups(facts, report)
    replay_schedules(facts, report)
    replay_run(facts, tensors, report)
    replay_windows(facts, tensors, report)
    replay_segments(facts, tensors, report)
    replay_quality(facts, tensors, report)


def network_of(name: str, facts: dict[str, Any], tensors: Tensors) -> MaskTransformer:
    """The recorded model with its weights."""
    network = network_of_arch(name, facts)
    prefix = f'{name}.state.network.'
    state = {
        key.removeprefix(prefix).replace('encoder.backbone.', 'backbone.'): value
        for key, value in tensors.items()
        if key.startswith(prefix) and not key.endswith(('pixel_mean', 'pixel_std'))
    }
    network.load_state_dict(state)
    return network.train()


def images_of(name: str, tensors: Tensors) -> Tensor:
    """The recorded images, normalized."""
    return normalized(tensors[f'{name}.images'])


def normalized(images: Tensor) -> Tensor:
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (MEAN, STD))
    return (images.float() / 255 - mean) / std


def theirs(name: str) -> str:
    """The recorded name of one of our parameters."""
    return 'network.' + name.removeprefix('network.').replace('backbone.', 'encoder.backbone.', 1)


def replay_forward(name: str, facts: dict[str, Any], tensors: Tensors, report: Report) -> None:
    """All predictions and attention masks."""
    network, images = network_of(name, facts, tensors), images_of(name, tensors)
    blocks, queries = network.num_blocks, network.num_queries
    for case in CASES:
        probs = {'p1': [1.0] * blocks, 'mixed': facts['settings']['probs'][:blocks]}
        network.set_mask_probs(probs.get(case, [0.0] * blocks))
        network.train(not case.startswith('eval'))
        masks: list[Tensor] = []
        made = network.attention_mask

        def keep(*args: Any, made: Any = made, masks: list[Tensor] = masks) -> Tensor:
            masks.append(made(*args))
            return masks[-1]

        numbers = [tensors[f'{name}.mixed.draws.{i}'] for i in range(blocks)]
        with (
            torch.no_grad(),
            drawn(numbers if case == 'mixed' else []),
            mock.patch.object(network, 'attention_mask', keep),
        ):
            found = network(images)
        known = f'{name}.{case}.mask_logits.'
        numbered = [int(key.removeprefix(known)) for key in tensors if key.startswith(known)]
        first = max(numbered) + 1 - len(found.masks)
        for number, (logits, classes) in enumerate(zip(*found, strict=True), first):
            where = f'{name} {case} {number}'
            mine = ('mask_logits', logits), ('class_logits', classes)
            for what, value in mine:
                report.close(
                    'logits', 1e-5, value, tensors[f'{name}.{case}.{what}.{number}'], where
                )
        for number, mask in enumerate(masks):
            key = f'{name}.{case}.attn_mask.{number}'
            patches = mask.shape[-1] - queries - network.backbone.num_prefix_tokens
            report.same('attention masks', mask[:, 0, :queries, -patches:], tensors[key], key)
            rest = mask.clone()
            rest[:, 0, :queries, -patches:] = True
            report.same('attention masks', rest, torch.ones_like(rest), key)
        whole = f'{name}.{case}.whole_attn_mask.0'
        if whole in tensors:
            report.same('attention masks', masks[0][0], tensors[whole], whole)


def truth_of(name: str, loss: str, tensors: Tensors) -> list[InstanceData]:
    """The recorded targets."""
    found: list[InstanceData] = []
    while f'{name}.{loss}.target{len(found)}.masks' in tensors:
        prefix = f'{name}.{loss}.target{len(found)}'
        masks, labels = tensors[f'{prefix}.masks'], tensors[f'{prefix}.labels']
        found.append(InstanceData(masks=masks.bool(), labels=labels.long()))
    return found


def replay_loss(
    name: str, loss: str, facts: dict[str, Any], tensors: Tensors, report: Report
) -> None:
    """Every term, the sum, and the gradients."""
    network, truth = network_of(name, facts, tensors), truth_of(name, loss, tensors)
    criterion = criterion_of(network, facts)
    numbers = []
    for number in range(network.num_blocks + 1):
        prefix = f'{name}.{loss}.{number}'
        keys = [f'{prefix}.matcher_points.{place}' for place in range(len(truth))]
        keys += [f'{prefix}.random_points_oversampled', f'{prefix}.random_points_rest']
        numbers += [tensors[key] for key in keys if key in tensors]
    found = network(images_of(name, tensors))
    with drawn(numbers):
        losses = criterion(found, truth)
    recorded = facts[f'{name}.{loss}']
    where = f'{name} {loss}'
    for number, terms in enumerate(recorded['terms']):
        prefix = '' if number == network.num_blocks else f'd{number}.'
        for ours, known, weight in (
            ('loss_mask', 'loss_mask', 5),
            ('loss_dice', 'loss_dice', 5),
            ('loss_cls', 'loss_cross_entropy', 2),
        ):
            relative(report, 'losses', 1e-5, losses[prefix + ours], weight * terms[known], where)
    total = torch.stack([each.sum() for each in losses.values()]).sum()
    relative(report, 'losses', 1e-5, total, recorded['total'], where)
    total.backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None
        wanted = recorded['gradient_norms'][theirs(key)]
        relative(report, 'gradients', 1e-4, parameter.grad.norm(), wanted, f'{where} {key}')
        known = f'{name}.{loss}.gradient.{theirs(key)}'
        if known in tensors:
            report.close('gradients', 1e-4, parameter.grad, tensors[known], known)


def relative(
    report: Report, measure: str, limit: float, ours: Tensor, known: float, where: str
) -> None:
    report.add(measure, limit, abs(float(ours.detach()) - known) / max(abs(known), 1e-12), where)


def criterion_of(network: MaskTransformer, facts: dict[str, Any]) -> MaskLoss:
    classes = network.class_head.out_features - 1
    return MaskLoss(classes, network.num_queries, facts['settings']['num_points'])


def constructor(lr: float, decay: float, query_blocks: bool) -> Any:
    return MaskTransformerOptimWrapperConstructor(
        dict(optimizer=dict(type='AdamW', lr=lr, weight_decay=0.05), clip_grad=dict(max_norm=0.01)),
        dict(layer_decay=decay, decay_query_blocks=query_blocks),
    )


def replay_groups(facts: dict[str, Any], report: Report) -> None:
    """Rate and schedule of every parameter."""
    for key, recorded in facts['groups'].items():
        network = network_of_arch(key.split('.')[0], facts)
        settings = recorded['settings']
        made = constructor(settings['lr'], settings['llrd'], settings['llrd_l2_enabled'])
        groups = made.parameter_groups(Holder(network))
        ours = {
            theirs(name): (group['lr'], group['part'], group['weight_decay'])
            for group in groups
            for name in group['param_names']
        }
        wanted = recorded['parameters']
        report.add('groups', 0.0, len(set(ours) ^ set(wanted)), f'{key}: names')
        for name, (lr, part) in wanted.items():
            error = abs(ours[name][0] - lr) / lr
            error += ours[name][1] != part or ours[name][2] != 0.05
            report.add('groups', 1e-9, error, f'{key} {name}')


def network_of_arch(name: str, facts: dict[str, Any]) -> MaskTransformer:
    model = facts['settings']['models'][name]
    fields = ('patch_size', 'embed_dim', 'depth', 'num_heads', 'reg_tokens', 'no_embed_class')
    arch = {field: model[field] for field in (*fields, 'init_values')}
    vit = PlainViT(arch, img_size=tuple(model['img_size']))
    return MaskTransformer(vit, model['C'], model['Q'], model['L2'])


def replay_schedules(facts: dict[str, Any], report: Report) -> None:
    """Factors of both schedules, and probabilities, at recorded steps."""
    for key in (key for key in facts if key.startswith('schedule.')):
        recorded = facts[key]
        if isinstance(recorded, dict):
            known = recorded['factor_of_lr_at_t']
            for part, factors in known.items():
                scheduler = schedule(recorded['T'], recorded['warmup'])
                for step, factor in enumerate(factors):
                    if step < recorded['T'] or factor == 0:
                        ours = scheduler.share(step, part)
                        report.number('schedules', 1e-9, ours, factor, f'{key} {part} {step}')
            continue
        for row in recorded:
            scheduler = schedule(row['T'], row['warmup'])
            for part in ('backbone', 'heads'):
                ours = scheduler.share(row['t'], part)
                report.number('schedules', 1e-9, ours, row[part], f'{key} {row["t"]} {part}')
    for row in facts['annealing']:
        ours = mask_prob(row['t'], row['start'], row['end'])
        # recorded in single precision
        report.number('probabilities', 1e-6, ours, row['p'], str(row))


def schedule(total: int, warmup: Sequence[int]) -> TwoPartPolyLR:
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([dict(params=[parameter], part='heads')], lr=1.0)
    return TwoPartPolyLR(optimizer, warmup=warmup, begin=0, end=total, by_epoch=False)


def replay_run(facts: dict[str, Any], tensors: Tensors, report: Report) -> None:
    """Some steps of training: rates, probabilities, losses, and the weights in the end."""
    run = facts['run']
    settings = run['settings']
    name = settings['model']
    network, truth = network_of(name, facts, tensors), truth_of(name, 'loss', tensors)
    model, criterion = Holder(network), criterion_of(network, facts)
    wrapper = constructor(settings['lr'], 0.8, True)(model)
    steps = settings['steps']
    scheduler = TwoPartPolyLR(
        wrapper, warmup=settings['warmup'], begin=0, end=steps, by_epoch=False
    )
    images = images_of(name, tensors)
    before = {key: value.clone() for key, value in network.named_parameters()}
    for step, recorded in enumerate(run['log']):
        phases = zip(settings['starts'], settings['ends'], strict=True)
        probs = [mask_prob(step, start, end) for start, end in phases]
        network.set_mask_probs(probs)
        where = f'step {step}'
        wanted = torch.tensor(recorded['probs'])
        report.close('run: probabilities', 1e-6, torch.tensor(probs), wanted, where)
        rates = {group.get('part'): group['lr'] for group in wrapper.optimizer.param_groups}
        for part in ('backbone', 'heads'):
            known = recorded[f'lr_{part}'] / settings['lr']
            report.number('run: rates', 1e-6, rates[part] / settings['lr'], known, where)
        numbers: list[Tensor] = []
        while f'run.step{step}.rand.{len(numbers)}' in tensors:
            numbers.append(tensors[f'run.step{step}.rand.{len(numbers)}'])
        with drawn(numbers):
            losses = criterion(network(images), truth).values()
            loss = torch.stack([each.sum() for each in losses]).sum()
        relative(report, 'run: losses', 1e-3, loss, recorded['loss'], where)
        wrapper.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), 0.01)
        known = recorded['gradient_norm_before_clip']
        relative(report, 'run: gradient norms', 1e-3, norm, known, where)
        wrapper.optimizer.step()
        scheduler.step()
    after = {theirs(key): value - before[key] for key, value in network.named_parameters()}
    for key in (key for key in tensors if key.startswith('run.change.')):
        known = tensors[key]
        error = (after[key.removeprefix('run.change.')].detach() - known).norm() / known.norm()
        report.add('run: weights', 1e-3, float(error), key)


def replay_windows(facts: dict[str, Any], tensors: Tensors, report: Report) -> None:
    """Sizes, windows, crops, merged scores and labels."""
    for row in facts['windows'].get('arithmetic', []):
        width, height = mmcv.rescale_size((row['w'], row['h']), (100_000, row['size']))
        windows = windows_of((height, width), row['size'])
        along = [rows if height > width else columns for rows, columns in windows]
        ours = [[height, width], [[part.start, part.stop] for part in along]]
        same = ours == [row['resized'], row['windows']]
        report.add('windows', 0.0, float(not same), f'{row["w"]} x {row["h"]}')
    place = number = 0
    size = tensors['windows.crops'].shape[-1]
    while f'windows.image.{number}' in tensors:
        image = tensors[f'windows.image.{number}']
        height, width = image.shape[1:]
        new = mmcv.rescale_size((width, height), (100_000, size))
        pixels = image.permute(1, 2, 0).numpy()
        resized = mmcv.imresize(pixels, new, backend='pillow', interpolation='bilinear')
        windows = windows_of(resized.shape[:2], size)
        part = slice(place, place + len(windows))
        crops = np.stack([resized[rows, columns] for rows, columns in windows])
        cut = torch.from_numpy(crops).permute(0, 3, 1, 2)
        report.same('windows', cut, tensors['windows.crops'][part], f'crops of {number}')
        scores = class_scores(
            tensors['windows.mask_logits'][part],
            tensors['windows.class_logits'][part],
            (size, size),
        )
        merged = merge(list(scores), windows)[None]
        merged = nn.functional.interpolate(merged, (height, width), mode='bilinear')[0]
        report.close('scores', 1e-5, merged, tensors[f'windows.logits.{number}'], f'{number}')
        best = tensors[f'windows.logits.{number}'].topk(2, dim=0).values
        clear = (best[0] - best[1]) > 1e-5
        known = tensors[f'windows.prediction.{number}'][clear]
        report.same('labels', merged.argmax(0)[clear], known, f'{number}')
        place, number = part.stop, number + 1


def found_masks(facts: dict[str, Any], tensors: Tensors, report: Report) -> list[Tensor]:
    """Logits at the images' own sizes, of recorded ones of the padded images."""
    size = facts['settings']['out']['img_size']
    found: list[Tensor] = []
    while f'out.image.{len(found)}' in tensors:
        number = len(found)
        image = tensors[f'out.image.{number}']
        height, width = image.shape[1:]
        pixels = image.permute(1, 2, 0).numpy()
        resized = mmcv.imrescale(pixels, tuple(size), backend='pillow', interpolation='bilinear')
        padded = mmcv.impad(resized, shape=tuple(size), pad_val=0)
        ours = torch.from_numpy(padded).permute(2, 0, 1)
        report.same('padded images', ours, tensors['out.padded'][number], f'{number}')
        factors = resized.shape[1] / width, resized.shape[0] / height
        about = dict(ori_shape=(height, width), scale_factor=factors)
        found.append(at_own_size(tensors['out.mask_logits'][number], tuple(size), about))
    return found


def replay_segments(facts: dict[str, Any], tensors: Tensors, report: Report) -> None:
    """Panoptic segments under every pair of thresholds, and instances."""
    out = facts['settings']['out']
    stuff, classes = out['stuff'], out['C']
    things = classes - len(stuff)
    # mmdet numbers things first
    order = [label for label in range(classes) if label not in stuff] + list(stuff)
    logits = tensors['out.class_logits'][..., [*order, classes]]
    masks = found_masks(facts, tensors, report)
    for key in (key for key in facts if key.startswith('out.panoptic_')):
        score, overlap = map(float, key.rsplit('_', 2)[1:])
        fusion = head(things, len(stuff), object_mask_thr=score, iou_thr=overlap)
        for number, mask in enumerate(masks):
            made = fusion.panoptic_postprocess(logits[number], mask).sem_seg[0]
            known = tensors[f'{key}.{number}'].long()
            labels = torch.tensor([*order, classes])[made.long() % INSTANCE_OFFSET]
            report.same('panoptic classes', labels, known[..., 0], f'{key} {number}')
            ours, recorded = same_parts(made), same_parts(known[..., 1])
            report.same('panoptic segments', ours, recorded, f'{key} {number}')
    for number, mask in enumerate(masks):
        if f'out.instance.{number}.scores' in tensors:
            compare_instances(number, logits[number], mask, order, facts, tensors, report)


def head(things: int, stuff: int, **settings: Any) -> Any:
    return MaskFormerFusionHead(things, stuff, test_cfg=dict(filter_low_score=True, **settings))


def same_parts(values: Tensor) -> Tensor:
    """Numbers of an image's parts in the order in which they are met, row by row."""
    _, first = np.unique(values.numpy().ravel(), return_index=True)
    met = [int(values.flatten()[place]) for place in sorted(first)]
    return torch.stack([values == value for value in met]).int().argmax(0)


def compare_instances(
    number: int,
    logits: Tensor,
    mask: Tensor,
    order: list[int],
    facts: dict[str, Any],
    tensors: Tensors,
    report: Report,
) -> None:
    prefix = f'out.instance.{number}'
    found = head(len(order), 0, max_per_image=facts['settings']['out']['top_k'])
    made = found.instance_postprocess(logits, mask)
    best = made.scores.argsort(descending=True, stable=True)
    scores = tensors[f'{prefix}.scores']
    report.close('instance scores', 1e-5, made.scores[best], scores, prefix)
    areas = made.masks.flatten(1).sum(1)
    packed = np.packbits(made.masks.flatten(1).numpy(), axis=1)
    labels = torch.tensor(order)[made.labels]
    rows = [
        sorted(
            (int(label), int(area), bytes(bits))
            for label, area, bits, score in zip(*columns, strict=True)
            if score > 0
        )
        for columns in (
            (labels, areas, packed, made.scores),
            (
                tensors[f'{prefix}.labels'],
                tensors[f'{prefix}.areas'],
                tensors[f'{prefix}.masks_packed'].numpy(),
                scores,
            ),
        )
    ]
    differ = sum(a != b for a, b in zip(*rows, strict=True))
    report.add('instances', 0.0, differ, prefix)


def replay_quality(facts: dict[str, Any], tensors: Tensors, report: Report) -> None:
    """PQ, SQ and RQ of every class."""
    pq = facts['pq']
    classes = facts['settings']['out']['C']
    stuff = facts['settings']['out']['stuff']
    total = np.zeros((classes, 4))
    number = 0
    while f'pq.truth.{number}.masks' in tensors:
        masks = tensors[f'pq.truth.{number}.masks'].numpy().astype(bool)
        labels = tensors[f'pq.truth.{number}.labels'].tolist()
        crowds = [bool(crowd) for crowd in tensors[f'pq.truth.{number}.is_crowd'].tolist()]
        masks, labels, crowds = joined_stuff(masks, labels, crowds, stuff)
        truth = np.full(masks.shape[1:], -1)
        for place, mask in enumerate(masks):
            truth[mask] = place
        made = tensors[f'{pq["predictions"]}.{number}'].numpy().astype(np.int64)
        there = made[..., 1] >= 0
        # one segment for all stuff of a class
        keys = np.where(np.isin(made[..., 0], stuff), -made[..., 0] - 1, made[..., 1])
        values, places = np.unique(keys[there], return_inverse=True)
        found = np.full(there.shape, -1)
        found[there] = places
        found_labels = [
            int(made[..., 0][there][places == place][0]) for place in range(len(values))
        ]
        total += count_matches(truth, labels, crowds, found, found_labels, classes)
        number += 1
    names = ('iou_sum', 'true_positives', 'false_positives', 'false_negatives')
    for column, name in enumerate(names):
        known = torch.tensor(pq[name][:classes]).double()
        report.close('panoptic quality', 1e-6, torch.from_numpy(total[:, column]), known, name)
    ours = torch.from_numpy(np.nan_to_num(quality(total)))
    known = torch.tensor(pq['pq_sq_rq_per_class'][:classes]).double()
    report.close('panoptic quality', 1e-6, ours, known, 'PQ, SQ, RQ')


def joined_stuff(
    masks: Any, labels: list[int], crowds: list[bool], stuff: Sequence[int]
) -> tuple[Any, list[int], list[bool]]:
    """Let stuff of a class be one segment, as COCO's truth has it."""
    parts: dict[Any, tuple[Any, int, bool]] = {}
    for place, (mask, label, crowd) in enumerate(zip(masks, labels, crowds, strict=True)):
        key = ('stuff', label) if label in stuff else place
        known = parts.get(key)
        parts[key] = (mask if known is None else known[0] | mask, label, crowd)
    joined, names, marks = zip(*parts.values(), strict=True)
    return np.stack(joined), list(names), list(marks)
