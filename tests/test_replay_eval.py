"""The replay of recorded evaluations, on a recording made by timm and brute force."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from tests import replay_eval
from tests.backbone.helpers import TINY, timm_vit
from tests.checkpoints import families

CLASSES, K, T, C = 3, [2, 4], [0.05, 0.2], 10.0


def tokens(vit: VisionTransformer, images: Tensor) -> tuple[list[Tensor], Tensor]:
    """Tokens of the last two blocks before the norm, and of the last one after it."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = ((images.float() / 255 - mean) / std).permute(0, 3, 1, 2)
    with torch.no_grad():
        x = vit.norm_pre(vit._pos_embed(vit.patch_embed(pixels)))
        found = []
        for block in vit.blocks:
            x = block(x)
            found.append(x)
        return found[-2:], vit.norm(x)


def least_sum(rows: Tensor, labels: Tensor) -> Tensor:
    """W of least sum of cross-entropies + |W|^2 / 2C, by torch's L-BFGS."""
    weights = torch.zeros(CLASSES, rows.shape[1], dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS(
        [weights],
        max_iter=2000,
        tolerance_grad=1e-12,
        tolerance_change=1e-15,
        line_search_fn='strong_wolfe',
    )

    def closure() -> Tensor:
        solver.zero_grad()
        loss = torch.nn.functional.cross_entropy(rows @ weights.T, labels, reduction='sum')
        loss = loss + weights.square().sum() / (2 * C)
        loss.backward()
        return loss

    solver.step(closure)
    return weights.detach()


def recorded() -> tuple[dict[str, Any], dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    vits = {'encoder_teacher': timm_vit(TINY, 0), 'encoder': timm_vit(TINY, 1)}
    state = families.moca(vits['encoder_teacher'], vits['encoder'])
    state = state.get('model', state)
    tensors = {f'state.{k}': v for k, v in state.items() if isinstance(v, Tensor)}
    rows: dict[str, Tensor] = {}
    for split, count in (('train', 12), ('query', 7)):
        labels = torch.arange(count) * CLASSES // count
        tint = 40.0 * labels[:, None, None, None] * torch.tensor([1.0, 0, -1])
        noise = 128 + 40 * torch.randn(count, 32, 32, 3, generator=generator)
        images = (noise + tint).clamp(0, 255).to(torch.uint8)
        blocks, last = tokens(vits['encoder_teacher'], images)
        _, student = tokens(vits['encoder'], images)
        norm = vits['encoder_teacher'].norm
        cls, mean = last[:, 0], last[:, 1:].mean(1)
        several = torch.cat([norm(block)[:, 0].detach() for block in blocks], 1)
        raw = blocks[-1][:, 1:].mean(1)
        picked = raw[::2] if split == 'train' else raw
        centered = picked - picked.mean(1, keepdim=True)
        rows[split] = (centered / centered.norm(dim=1, keepdim=True)).double()
        tensors |= {
            f'{split}.images': images,
            f'{split}.labels': labels,
            f'knn.{split}': mean,
            f'knn.student_{split}': student[:, 1:].mean(1),
            f'linear.cls.{split}': cls.contiguous(),
            f'linear.avg.{split}': mean.clone(),
            f'linear.cls_avg.{split}': torch.cat([cls, mean], 1),
            f'linear.cls_several.{split}': several,
            f'lowshot.{split}': picked,
            f'lowshot.{split}_rows': rows[split].float(),
        }
    labels, truth = tensors['train.labels'], tensors['query.labels']
    weights = least_sum(rows['train'], labels[::2])
    answers = (rows['query'] @ weights.T).argmax(1)
    tensors['lowshot.weights'] = weights
    settings = {
        'model': {**TINY, 'mlp_ratio': 4},
        'classes': CLASSES,
        'knn': {'k': K, 'T': T, 'results': voted(tensors)},
        'linear': {'several': 2},
        'lowshot': {
            'subset': list(range(0, 12, 2)),
            'C': C,
            'predictions': answers.tolist(),
            'top1': int((answers == truth).sum()),
        },
    }
    return settings, tensors


def voted(tensors: dict[str, Tensor]) -> list[dict[str, Any]]:
    """Votes and answers of one query and neighbor at a time; votes go into `tensors`."""
    bank, queries = (tensors[f'knn.{split}'].double() for split in ('train', 'query'))
    labels, results = tensors['train.labels'].tolist(), []
    for k in K:
        for temperature in T:
            votes = torch.zeros(len(queries), CLASSES, dtype=torch.float64)
            for row, query in zip(votes, queries, strict=True):
                cosine = [float(query @ b / query.norm() / b.norm()) for b in bank]
                for place in sorted(range(len(bank)), key=lambda i, c=cosine: -c[i])[:k]:
                    row[labels[place]] += math.exp(cosine[place] / temperature)
            tensors[f'knn.votes.k{k}_T{temperature}'] = votes.float()
            order = votes.argsort(dim=1, descending=True, stable=True)
            hits = order == tensors['query.labels'][:, None]
            counts = {'top1': int(hits[:, 0].sum()), 'top5': int(hits[:, : min(5, k)].sum())}
            first = order[:, 0].tolist()
            results.append({'k': k, 'T': temperature, 'predictions': first, **counts})
    return results


@pytest.fixture(scope='module')
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('recording')
    settings, tensors = recorded()
    (folder / 'tiny.json').write_text(json.dumps(settings))
    save_file(
        {name: value.contiguous() for name, value in tensors.items()}, folder / 'tiny.safetensors'
    )
    return folder / 'tiny.json'


PARTS = ['--parts', 'features', 'k-NN', 'low-shot']


def test_what_timm_and_brute_force_recorded_is_reached(
    recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay_eval.main([str(recording), *PARTS]) == 0
    assert 'all as recorded' in capsys.readouterr().out


def votes_of_another_temperature(settings: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    tensors['knn.votes.k4_T0.2'] = tensors['knn.votes.k4_T0.05']


def students_features(settings: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    tensors['knn.query'] = tensors['knn.student_query']


def features_after_the_norm(settings: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    tensors['lowshot.query'] = tensors['knn.query']


def tenth_of_the_strength(settings: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    settings['lowshot']['C'] = C / 10


def another_answer(settings: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    settings['knn']['results'][0]['top1'] += 1


@pytest.mark.parametrize(
    ('spoil', 'part', 'said'),
    [
        (votes_of_another_temperature, 'k-NN', 'FAILED votes, k 4 T 0.2'),
        (students_features, 'features', 'FAILED features knn.query'),
        (features_after_the_norm, 'features', 'FAILED features lowshot.query'),
        (tenth_of_the_strength, 'low-shot', 'FAILED low-shot weights, own rows'),
        (another_answer, 'k-NN', 'FAILED top1, k 2 T 0.05'),
    ],
)
def test_mistakes_are_seen(
    recording: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[dict[str, Any], dict[str, Tensor]], None],
    part: str,
    said: str,
) -> None:
    settings = json.loads(recording.read_text())
    tensors = load_file(recording.with_suffix('.safetensors'))
    spoil(settings, tensors)
    (tmp_path / 'wrong.json').write_text(json.dumps(settings))
    save_file({n: v.clone() for n, v in tensors.items()}, tmp_path / 'wrong.safetensors')
    assert replay_eval.main([str(tmp_path / 'wrong.json'), '--parts', part]) == 1
    assert said in capsys.readouterr().out


def test_a_missing_recording_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay_eval.main([str(tmp_path / 'none.json')]) == 2
    assert 'no such file' in capsys.readouterr().err
