"""k-NN of images against brute force, in one process and in several, computed and read again."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision import datasets, transforms

from moca.backbone import PlainViT
from moca.errors import UserError
from moca.evaluation import extraction, knn
from moca.evaluation.extraction import Cut, CutImages, ImageFeatures
from moca.evaluation.image_sets import read_image_set
from moca.evaluation.knn import KNN, nearest
from moca.evaluation.labeled import Labeled
from moca.evaluation.protocol import EvaluationRun
from tests.evaluation.image_data import ARCH, SIZE, tiny_vit, write_images

COUNTS = {'ant': 5, 'bee': 4, 'cow': 4}
KS, TEMPERATURES = (1, 4, 7), (0.01, 0.07)


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """13 images of three classes and 7 to classify."""
    root = tmp_path_factory.mktemp('labeled')
    write_images(root / 'train', COUNTS)
    write_images(root / 'val', {'ant': 3, 'bee': 2, 'cow': 2}, seed=1)
    return root


@pytest.fixture(scope='module')
def model() -> PlainViT:
    return tiny_vit()


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extraction, 'PART', 5)


def evaluation(root: Path, **settings: Any) -> KNN:
    sets = [dict(data_root=str(root), split=split) for split in ('train', 'val')]
    settings = dict(k=KS, temperatures=TEMPERATURES) | settings
    found = KNN(*sets, **settings)
    found.prepare()
    return found


def run_of(**settings: Any) -> EvaluationRun:
    return EvaluationRun(**(dict(batch_size=3) | settings))


def truth(root: Path, model: PlainViT, split: str, mode: Any, share: int) -> tuple[Tensor, Any]:
    """Mean patch tokens of length 1 by torchvision's data set and transforms, and labels."""
    view = transforms.Compose(
        [
            transforms.Resize(share, mode),
            transforms.CenterCrop(SIZE),
            transforms.ToTensor(),
            transforms.Normalize(model.mean, model.std),
        ]
    )
    images = datasets.ImageFolder(str(root / split), view)
    features = [model.tokens(image[None]).patches.mean(1)[0] for image, _ in images]
    rows = torch.stack(features).double()
    return rows / rows.norm(dim=1, keepdim=True), images.targets


def brute_force(
    bank: Tensor, labels: list[int], queries: Tensor, truth: list[int], k: int, temperature: float
) -> tuple[float, float]:
    """Top-1 and top-5 in percent, one query and one neighbor at a time."""
    first = five = 0
    for query, label in zip(queries, truth, strict=True):
        cosine = (bank @ query).tolist()
        votes = [0.0] * 3
        for place in sorted(range(len(bank)), key=lambda i: -cosine[i])[:k]:
            votes[labels[place]] += math.exp(cosine[place] / temperature)
        order = sorted(range(3), key=lambda c: -votes[c])
        first += order[0] == label
        five += label in order[: min(5, k)]
    return 100 * first / len(truth), 100 * five / len(truth)


def test_every_k_and_temperature_against_brute_force(root: Path, model: PlainViT) -> None:
    mode = transforms.InterpolationMode.BICUBIC
    bank, labels = truth(root, model, 'train', mode, 36)
    queries, asked = truth(root, model, 'val', mode, 36)
    result = evaluation(root, share=0.875).run(model, run_of())
    expected = {
        f'k {k}, T {t:g}': brute_force(bank, labels, queries, asked, k, t)
        for k in KS
        for t in TEMPERATURES
    }
    for place, name in enumerate(('top1', 'top5')):
        found = result.chosen[name]
        assert found == pytest.approx({key: v[place] for key, v in expected.items()}, abs=1e-3)
    assert len({value[0] for value in expected.values()}) > 1
    assert result.metrics['top1'] == pytest.approx(max(v[0] for v in expected.values()))
    for k in KS:
        assert result.metrics[f'top1_k{k}'] == pytest.approx(expected[f'k {k}, T 0.07'][0])
    assert 'scored' in result.chosen['on']


class Overflow(PlainViT):
    """A backbone whose features are no numbers, of one image in three."""

    def tokens(self, images: Tensor, *_: Any, **__: Any) -> Any:
        found = super().tokens(images)
        found.patches[::3] = math.nan
        return found


def test_features_that_are_no_numbers_are_refused(root: Path, tmp_path: Path) -> None:
    """Nothing is more than NaN, so that each such query would count as right."""
    broken = Overflow(ARCH, img_size=SIZE, frozen=True).eval()
    with pytest.raises(UserError, match=r'query images are not all finite numbers\. Give another'):
        evaluation(root).run(broken, run_of(cache=tmp_path))
    assert not list(tmp_path.rglob('*.npy'))
    half = run_of(precision=torch.bfloat16)
    with pytest.raises(UserError, match='bfloat16 may be too small for it: leave out --amp'):
        evaluation(root).run(broken, half)


def test_one_k_and_temperature_choose_nothing(root: Path, model: PlainViT) -> None:
    result = evaluation(root, k=(4,), temperatures=(0.07,), feature='cls').run(model, run_of())
    assert result.chosen == {}
    assert result.metrics['top1'] == result.metrics['top1_k4']


def test_lengths_of_features_do_not_matter(
    root: Path, model: PlainViT, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = evaluation(root).run(model, run_of()).chosen
    own = ImageFeatures.own

    def scaled(self: ImageFeatures) -> Iterator[tuple[slice, Tensor]]:
        for part, features in own(self):
            yield part, features * torch.rand(len(features), 1).add(0.1)

    monkeypatch.setattr(ImageFeatures, 'own', scaled)
    assert evaluation(root).run(model, run_of()).chosen == expected


def test_three_processes_find_what_one_finds(
    root: Path, model: PlainViT, monkeypatch: pytest.MonkeyPatch
) -> None:
    """13 and 7 images in parts of 5 do not divide by 3: none may count twice."""
    sets = evaluation(root)
    bank = ImageFeatures(model, sets.bank, Cut(), 'avg', run_of(), 'bank')
    queries = torch.nn.functional.normalize(
        ImageFeatures(model, sets.queries, Cut(), 'avg', run_of(), 'queries').whole(), dim=1
    )
    whole = bank.whole()
    alone = nearest(bank, queries, 13)
    assert sorted(alone.rows[0].tolist()) == list(range(13))
    parts, places = [], []
    for rank in range(3):
        monkeypatch.setattr(extraction, 'get_dist_info', lambda rank=rank: (rank, 3))
        for part, features in bank.own():
            assert torch.equal(features, whole[part])
            places += range(len(whole))[part]
        parts.append(nearest(bank, queries, 13))
    assert sorted(places) == list(range(13))
    monkeypatch.setattr(extraction, 'get_dist_info', lambda: (0, 3))
    monkeypatch.setattr(knn, 'get_dist_info', lambda: (0, 3))
    names = iter(('cosine', 'labels', 'rows'))

    def gathered(_: Tensor) -> list[Tensor]:
        name = next(names)
        return [getattr(each, name) for each in parts]

    monkeypatch.setattr(knn, 'all_gather', gathered)
    together = nearest(bank, queries, 13)
    assert torch.equal(together.rows, alone.rows)
    assert torch.equal(together.cosine, alone.cosine)


def test_every_process_gets_the_whole_set(
    root: Path, model: PlainViT, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each sends what it computed, and nothing else, to the others."""
    bank = ImageFeatures(model, evaluation(root).bank, Cut(), 'avg', run_of(), 'bank')
    whole = bank.whole()
    for rank in range(2):
        parts, sent = iter(bank.parts), []

        def send(
            tensor: Tensor, src: int, rank: int = rank, parts: Any = parts, sent: Any = sent
        ) -> None:
            part = next(parts)
            assert src != rank or torch.equal(tensor, whole[part])
            sent.append(src)
            tensor.copy_(whole[part])

        monkeypatch.setattr(extraction, 'get_dist_info', lambda rank=rank: (rank, 2))
        monkeypatch.setattr(extraction, 'broadcast', send)
        assert torch.equal(bank.whole(), whole)
        assert sent == [0, 1, 0]


def test_features_are_computed_once(
    root: Path, model: PlainViT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = read_image_set(root, 'val', 'queries')
    read: list[int] = []
    image = Labeled.image

    def counted(self: Labeled, index: int) -> Any:
        read.append(index)
        return image(self, index)

    monkeypatch.setattr(Labeled, 'image', counted)

    def features(**changes: Any) -> Tensor:
        read.clear()
        settings: dict[str, Any] = dict(cut=Cut(), kind='avg', run=run_of(cache=tmp_path))
        return ImageFeatures(model, images, about='images', **(settings | changes)).whole()

    first = features()
    assert read == list(range(7))
    assert torch.equal(features(), first)
    assert read == []
    # a part that is gone or damaged is computed again, and no other
    parts = sorted(tmp_path.glob('*/*.npy'))
    assert len(parts) == 2
    parts[1].write_bytes(parts[1].read_bytes()[:-9])
    assert torch.equal(features(), first)
    assert read == [5, 6]
    for changes in (
        dict(cut=Cut('bilinear')),
        dict(kind='cls'),
        dict(run=run_of(cache=tmp_path, precision=torch.bfloat16)),
    ):
        assert not torch.equal(features(**changes), first)
        assert len(read) == 7
    model.norm.bias += 1
    try:
        assert not torch.equal(features(), first)
    finally:
        model.norm.bias -= 1


def test_images_are_normalized_once_and_as_the_backbone_wants(tmp_path: Path) -> None:
    pixels = np.full((1, 8, 8, 3), (102, 153, 204), np.uint8)
    images = Labeled(np.array([b'one']), np.array([0]), ('gray',), pixels=pixels)
    cut = CutImages(images, (8, 8), Cut(), (0.4, 0.6, 0.8), (0.5, 0.5, 0.5))
    torch.testing.assert_close(cut[0], torch.zeros(3, 8, 8))


def test_few_images_a_class(root: Path, model: PlainViT) -> None:
    few = evaluation(root, per_class=2, tries=3, k=(1, 10), temperatures=(0.07,))
    assert few.train_images == 6
    assert few.k == (1, 2)
    result = few.run(model, run_of())
    assert result.metrics['top1_std'] >= 0
    whole = evaluation(root, per_class=4, tries=2, k=(1,), temperatures=(0.07,))
    assert 0 <= whole.run(model, run_of()).metrics['top1'] <= 100


def test_what_is_wrong_is_said_before_anything_long_runs(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'evaluation\.k=14: the bank has 13 images'):
        evaluation(root, k=(14,))
    with pytest.raises(UserError, match=r'evaluation\.per_class=5: class bee has 4 images'):
        evaluation(root, per_class=5)
    with pytest.raises(UserError, match=r'evaluation\.temperatures'):
        evaluation(root, temperatures=(0.0,))
    with pytest.raises(UserError, match=r'evaluation\.interpolation'):
        evaluation(root, interpolation='nearest')
    with pytest.raises(UserError, match='no such feature'):
        evaluation(root, feature='mean')
    with pytest.raises(UserError, match=r'the image .* byte for byte'):
        KNN(*[dict(data_root=str(root), split='val')] * 2).prepare()
    write_images(tmp_path / 'train', {'ant': 2, 'bee': 2})
    (tmp_path / 'val').symlink_to(root / 'val')
    with pytest.raises(UserError, match=r"evaluation\.queries: .* also has 'cow'"):
        evaluation(tmp_path)
