"""Low-shot classification: what it fits on, and what it reports."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torchvision import datasets, transforms

from moca.backbone import PlainViT
from moca.errors import UserError
from moca.evaluation import lowshot
from moca.evaluation.lowshot import LowShot
from moca.evaluation.protocol import EvaluationRun, Result
from tests.evaluation.image_data import SIZE, tiny_vit, write_images

CLASSES = ('ant', 'bee', 'cow')


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('labeled')
    write_images(root / 'train', dict.fromkeys(CLASSES, 6))
    write_images(root / 'val', dict.fromkeys(CLASSES, 4), seed=1)
    for folder in (root / 'train').iterdir():  # as ImageNet's are named
        for path in folder.iterdir():
            path.rename(folder / f'{folder.name}_{path.name}')
    return root


@pytest.fixture(scope='module')
def model() -> PlainViT:
    return tiny_vit()


def evaluation(root: Path, **settings: Any) -> LowShot:
    sets = [dict(data_root=str(root), split=split) for split in ('train', 'val')]
    found = LowShot(*sets, **settings)
    found.prepare()
    return found


def measured(root: Path, model: PlainViT, **settings: Any) -> Result:
    return evaluation(root, **settings).run(model, EvaluationRun())


def test_scores_are_those_of_the_recipe_written_out(root: Path, model: PlainViT) -> None:
    """Bilinear images, last block before the norm, rows centered and of length 1, C 10."""
    view = transforms.Compose(
        [
            transforms.Resize(SIZE),
            transforms.CenterCrop(SIZE),
            transforms.ToTensor(),
            transforms.Normalize(model.mean, model.std),
        ]
    )
    rows, labels = {}, {}
    for split in ('train', 'val'):
        images = datasets.ImageFolder(str(root / split), view)
        tokens = [model.tokens(image[None], layers=(-1,)).intermediate[0] for image, _ in images]
        found = torch.cat(tokens).mean(1).double()
        found = found - found.mean(1, keepdim=True)
        rows[split] = (found / found.norm(dim=1, keepdim=True)).numpy()
        labels[split] = np.array(images.targets)
    expected = {}
    for count in (1, 2):
        expected[count] = []
        for seed in range(3):
            generator = torch.Generator().manual_seed(seed)
            draws = [torch.randperm(6, generator=generator)[:count] for _ in CLASSES]
            places = torch.cat([6 * label + draw for label, draw in enumerate(draws)]).numpy()
            solver = LogisticRegression(C=10, fit_intercept=False, tol=1e-9, max_iter=1000)
            solver.fit(rows['train'][places], labels['train'][places])
            right = solver.predict(rows['val']) == labels['val']
            expected[count].append(100 * right.mean())
    result = measured(root, model, shots=(1, 2))
    for count, scores in expected.items():
        assert result.settings['top1_of_splits'][f'{count}shot'] == pytest.approx(scores, abs=1e-3)
        assert result.metrics[f'top1_{count}shot'] == pytest.approx(np.mean(scores), abs=1e-3)
        deviation = np.std(scores)  # of the population
        assert result.metrics[f'top1_{count}shot_std'] == pytest.approx(deviation, abs=1e-3)
    assert len(set(expected[1] + expected[2])) > 1
    assert result.chosen == {}
    only = measured(root, model, shots=(2,))
    assert only.metrics['top1'] == result.metrics['top1_2shot']


def test_deviations_are_those_that_moca_prints(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """55.23 +- .14 and so on: divided by n, over splits."""
    printed = {
        1: ((55.226, 55.400, 55.064), 55.23, 0.14),
        2: ((63.822, 64.314, 63.692), 63.94, 0.27),
        5: ((69.898, 69.708, 69.614), 69.74, 0.12),
    }
    found = evaluation(root, shots=(1, 2, 5))
    numbers = [[score, 7.0] for scores, _, _ in printed.values() for score in scores]
    result = found._result(torch.tensor(numbers, dtype=torch.float64))
    for shots, (scores, mean, deviation) in printed.items():
        assert round(result.metrics[f'top1_{shots}shot'], 2) == mean
        assert round(result.metrics[f'top1_{shots}shot_std'], 2) == deviation
        assert round(statistics.stdev(scores), 2) != deviation


def test_lists_of_file_names_are_taken_as_they_are(
    root: Path, model: PlainViT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2):
        names = [f'{name}_{number:02d}.png' for name in reversed(CLASSES)]
        (tmp_path / f'set{number}').mkdir()
        (tmp_path / f'set{number}' / 'one.txt').write_text('\n'.join(names))
    (tmp_path / 'other.txt').write_text('\n'.join(f'{name}_05.png' for name in CLASSES))
    rows: list[Any] = []
    fit = lowshot.fit

    def spied(*arguments: Any) -> Any:
        rows.append(arguments[1].tolist())
        return fit(*arguments)

    monkeypatch.setattr(lowshot, 'fit', spied)
    found = evaluation(root, shots=('one',), subsets=str(tmp_path))
    assert [subset.places.tolist() for subset in found.subsets] == [[12, 6, 0], [13, 7, 1]]
    assert found.train_images == 3
    result = found.run(model, EvaluationRun())
    assert rows == [[2, 1, 0]] * 2
    assert len(result.settings['top1_of_splits']['one']) == len(result.settings['subsets']) == 2
    with pytest.raises(UserError, match=r'no list of 1pct; it has .*other'):
        evaluation(root, shots=('1pct',), subsets=str(tmp_path))


def test_processes_share_the_fits(
    root: Path, model: PlainViT, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = measured(root, model, shots=(1, 'all'))
    scores = []
    for rank in range(2):
        monkeypatch.setattr(lowshot, 'get_dist_info', lambda rank=rank: (rank, 2))
        monkeypatch.setattr(lowshot, 'all_reduce', lambda numbers: scores.append(numbers.clone()))
        measured(root, model, shots=(1, 'all'))
    monkeypatch.setattr(lowshot, 'all_reduce', lambda numbers: numbers.copy_(sum(scores)))
    assert measured(root, model, shots=(1, 'all')) == expected


def test_what_is_wrong_is_said_before_anything_long_runs(root: Path) -> None:
    with pytest.raises(UserError, match=r'evaluation\.shots=7: class ant has 6 images'):
        evaluation(root, shots=(1, 7))
    with pytest.raises(UserError, match=r'1pct is a list of file names. Give evaluation\.subsets'):
        evaluation(root, shots=(1, '1pct'))
    with pytest.raises(UserError, match=r'evaluation\.shots=\[1, 1\]'):
        evaluation(root, shots=(1, 1))
    with pytest.raises(UserError, match=r'evaluation\.C=0'):
        evaluation(root, C=0)
