"""Replay recorded transforms, features, k-NN and low-shot through the evaluations of the tools."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision import transforms

from moca.backbone import PlainViT
from moca.backbone.positions import resample_positions
from moca.checkpoints import load_checkpoint
from moca.evaluation.extraction import Cut, ImageFeatures
from moca.evaluation.knn import KNN
from moca.evaluation.labeled import Labeled, center, normalize
from moca.evaluation.logistic import fit, prepared_rows
from moca.evaluation.lowshot import LowShot
from moca.evaluation.neighbors import Neighbors, class_votes, right_answers
from moca.evaluation.protocol import EvaluationRun
from tests.replay_eval_linear import Check

Tensors = Mapping[str, Tensor]

FEATURES = {
    'knn.{}': 'avg',
    'linear.cls.{}': 'cls',
    'linear.avg.{}': 'avg',
    'linear.cls_avg.{}': 'cls+avg',
    'linear.cls_several.{}': 'cls*{several}',
}
"""Kinds of features by the recorded tensors' names."""


def replay_pixels(settings: Mapping[str, Any], tensors: Tensors) -> list[Check]:
    """Resize, cut and normalize the recorded larger images, and resample positions.

    Args:
        settings: The recording's JSON.
        tensors: Its tensors.
    """
    checks: list[Check] = []
    larger = [Image.fromarray(tensors[name].numpy()) for name in _larger(tensors)]
    for interpolation in ('bicubic', 'bilinear'):
        recorded = tensors[f'large.{interpolation}']
        side = recorded.shape[1]
        cut = [center(image, (side, side), None, interpolation) for image in larger]
        checks.append((f'pixels, {interpolation}', _differ(cut, recorded), 0.0))
        normed = torch.stack([normalize(image, *_STATISTICS) for image in cut])
        every = normed[:, :, ::16, ::16]
        error = float((every - tensors[f'large.{interpolation}_tensor']).abs().max())
        checks.append((f'normalized, {interpolation}', error, 1e-6))
    size = settings['model']['img_size']
    cut = [center(image, (size, size), _share(size)) for image in larger]
    checks.append(('pixels, fine-tuning', _differ(cut, tensors['large.finetune']), 0.0))
    for text, resized in settings['finetune']['eval_resize'].items():
        side = int(text)
        theirs = transforms.Compose(
            [
                transforms.Resize(resized, transforms.InterpolationMode.BICUBIC),
                transforms.CenterCrop(side),
            ]
        )(larger[0])
        ours = center(larger[0], (side, side), _share(side))
        checks.append((f'resized for {side} px', float(ours.tobytes() != theirs.tobytes()), 0.0))
    return [*checks, _positions(settings, tensors)]


def replay_features(settings: Mapping[str, Any], tensors: Tensors) -> list[Check]:
    """Extract every recorded kind of feature, of both branches.

    Args:
        settings: The recording's JSON.
        tensors: Its tensors.
    """
    teacher, student = _backbone(settings, tensors), _backbone(settings, tensors, 'student')
    checks = []
    for split in ('train', 'query'):
        images = _in_memory(tensors, split)
        for name, kind in FEATURES.items():
            key = name.format(split)
            kind = kind.format(several=settings['linear']['several'])
            error = _error(_features(teacher, images, kind), tensors[key])
            checks.append((f'features {key}', error, 1e-5))
        key = f'knn.student_{split}'
        checks.append((f'features {key}', _error(_features(student, images), tensors[key]), 1e-5))
        if split == 'train':
            images = images.part(settings['lowshot']['subset'])
        found = _features(teacher, images, 'avg_prenorm')
        checks.append(
            (f'features lowshot.{split}', _error(found, tensors[f'lowshot.{split}']), 1e-5)
        )
        rows = tensors[f'lowshot.{split}_rows']
        checks.append((f'rows of lowshot.{split}', _error(prepared_rows(found), rows), 1e-5))
    return checks


def replay_knn(settings: Mapping[str, Any], tensors: Tensors) -> list[Check]:
    """Find neighbors and let them vote, by functions and by the protocol on files.

    Args:
        settings: The recording's JSON.
        tensors: Its tensors.
    """
    model, classes = _backbone(settings, tensors), settings['classes']
    said, truth = settings['knn'], tensors['query.labels']
    bank, queries = (
        F.normalize(_features(model, _in_memory(tensors, split)), dim=1)
        for split in ('train', 'query')
    )
    found = Neighbors(queries, max(said['k']))
    found.add(bank, tensors['train.labels'])
    checks: list[Check] = []
    for each in said['results']:
        k, temperature = each['k'], each['T']
        cosine, labels = found.cosine[:, :k], found.labels[:, :k]
        name = f'k {k} T {temperature}'
        votes = class_votes(cosine, labels, temperature, classes)
        recorded = tensors[f'knn.votes.k{k}_T{temperature}']
        checks.append((f'votes, {name}', _error(votes, recorded), 1e-4))
        wrong = sum(int(v) != p for v, p in zip(votes.argmax(1), each['predictions'], strict=True))
        checks.append((f'answers, {name}', float(wrong), 0.0))
        counts = right_answers(cosine, labels, temperature, truth, classes)
        for place, count in zip(('top1', 'top5'), counts, strict=True):
            checks.append((f'{place}, {name}', abs(count - each[place]), 0.0))
    if not _whole(classes, tensors['train.labels'], truth):
        return checks
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder), tensors)
        sets = ({'data_root': folder, 'split': split} for split in ('train', 'query'))
        protocol = KNN(*sets, k=said['k'], temperatures=said['T'])
        protocol.prepare()
        best = protocol.run(model, EvaluationRun()).metrics['top1']
    right = round(best * len(truth) / 100)
    checks.append(('k-NN by files', abs(right - max(r['top1'] for r in said['results'])), 0.0))
    return checks


def replay_lowshot(settings: Mapping[str, Any], tensors: Tensors) -> list[Check]:
    """Fit the recorded regression from recorded and from own rows, and by the protocol on files.

    Args:
        settings: The recording's JSON.
        tensors: Its tensors.
    """
    said, model = settings['lowshot'], _backbone(settings, tensors)
    labels = tensors['train.labels'][said['subset']]
    recorded = {split: tensors[f'lowshot.{split}_rows'].double() for split in ('train', 'query')}
    images = _in_memory(tensors, 'train').part(said['subset'])
    own = {
        'train': prepared_rows(_features(model, images, 'avg_prenorm')),
        'query': prepared_rows(_features(model, _in_memory(tensors, 'query'), 'avg_prenorm')),
    }
    checks: list[Check] = []
    for name, rows in (('recorded', recorded), ('own', own)):
        fitted = fit(rows['train'].numpy(), labels.numpy(), said['C'], False, name)
        error = _error(torch.from_numpy(fitted.weights), tensors['lowshot.weights'])
        checks.append((f'low-shot weights, {name} rows', error, 1e-5))
        answers = fitted.answers(rows['query'].numpy()).tolist()
        pairs = zip(answers, said['predictions'], strict=True)
        wrong = sum(ours != theirs for ours, theirs in pairs)
        checks.append((f'low-shot answers, {name} rows', float(wrong), 0.0))
    if not _whole(settings['classes'], labels, tensors['query.labels']):
        return checks
    with tempfile.TemporaryDirectory() as folder:
        names = _write(Path(folder), tensors)['train']
        (Path(folder) / 'lists').mkdir()
        lines = [names[place] for place in said['subset']]
        (Path(folder) / 'lists/recorded.txt').write_text('\n'.join(lines))
        sets = ({'data_root': folder, 'split': split} for split in ('train', 'query'))
        protocol = LowShot(
            *sets, shots=['recorded'], subsets=f'{folder}/lists', C=said['C'], splits=1
        )
        protocol.prepare()
        top1 = protocol.run(model, EvaluationRun()).metrics['top1']
    right = round(top1 * len(tensors['query.labels']) / 100)
    checks.append(('low-shot by files', abs(right - said['top1']), 0.0))
    return checks


_STATISTICS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _share(size: int) -> float:
    """What MAE's fine-tuning keeps of a resized image: all above 224 pixels."""
    return 0.875 if size <= 224 else 1.0


def _larger(tensors: Tensors) -> Iterator[str]:
    number = 0
    while f'large.{number}' in tensors:
        yield f'large.{number}'
        number += 1


def _differ(images: list[Image.Image], recorded: Tensor) -> float:
    """How many images are not the recorded ones."""
    theirs = (image.numpy().tobytes() for image in recorded)
    return float(sum(a.tobytes() != b for a, b in zip(images, theirs, strict=True)))


def _positions(settings: Mapping[str, Any], tensors: Tensors) -> Check:
    own = tensors['state.encoder_teacher.pos_embed']
    patch = settings['model']['patch_size']
    before, after = (s // patch for s in (settings['model']['img_size'], settings['resized_to']))
    grid = resample_positions(own[:, 1:], (before, before), (after, after), 'bicubic')
    ours = torch.cat([own[:, :1], grid], dim=1)
    return 'positions, resized', _error(ours, tensors['positions.resized']), 1e-5


def _backbone(settings: Mapping[str, Any], tensors: Tensors, branch: str = 'teacher') -> PlainViT:
    about = settings['model']
    keys = ('img_size', 'patch_size', 'embed_dim', 'depth', 'num_heads', 'mlp_ratio')
    arch = {key: about[key] for key in keys}
    model = PlainViT(arch, img_size=about['img_size'], frozen=True)
    state = {k.removeprefix('state.'): v for k, v in tensors.items() if k.startswith('state.')}
    with tempfile.TemporaryDirectory() as folder:
        torch.save({'model': state}, Path(folder) / 'recorded.pth')
        load_checkpoint(model, Path(folder) / 'recorded.pth', branch)
    return model


def _in_memory(tensors: Tensors, split: str) -> Labeled:
    pixels, labels = tensors[f'{split}.images'].numpy(), tensors[f'{split}.labels'].numpy()
    names = [f'{split}/{number}'.encode() for number in range(len(labels))]
    classes = tuple(f'c{label:04d}' for label in range(int(labels.max()) + 1))
    return Labeled(np.array(names), labels, classes, pixels=pixels)


def _features(model: PlainViT, images: Labeled, kind: str = 'avg') -> Tensor:
    run = EvaluationRun(batch_size=len(images))
    return ImageFeatures(model, images, Cut(share=1.0), kind, run, 'images').whole()


def _whole(classes: int, *labels: Tensor) -> bool:
    """Whether every class has images: protocols refuse sets of files without some."""
    return all(len(each.unique()) == classes for each in labels)


def _write(folder: Path, tensors: Tensors) -> dict[str, list[str]]:
    """Both sets as folders of PNG files, in the recorded order; returns the files' names."""
    names: dict[str, list[str]] = {}
    for split in ('train', 'query'):
        names[split] = []
        pairs = zip(tensors[f'{split}.images'], tensors[f'{split}.labels'], strict=True)
        for number, (pixels, label) in enumerate(pairs):
            name = f'c{int(label):04d}'
            path = folder / split / name / f'{name}_{number:05d}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.numpy()).save(path)
            names[split].append(path.name)
    return names


def _error(ours: Tensor, theirs: Tensor) -> float:
    """``max|ours - theirs| / max|theirs|``."""
    if ours.shape != theirs.shape:
        return float('inf')
    return float((ours.double() - theirs.double()).abs().max() / theirs.double().abs().max())
