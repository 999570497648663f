"""The k-NN monitor against brute force, and beside runs that do not notice it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.runner import Runner
from PIL import Image

from moca.errors import UserError
from moca.pretrain.monitors import knn
from moca.pretrain.monitors.knn import KNNMonitor, add_knn_hook
from tests.configs.pretraining import tiny
from tests.pretrain.monitors.monitored import Log, measure, process, write_classes
from tests.pretrain.tiny import tiny_moca
from tests.processes import run_processes
from tests.results.short_run import CONFIG, train


@pytest.fixture(scope='module')
def labeled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('labeled')
    write_classes(folder / 'train', per_class=7)
    write_classes(folder / 'val', per_class=3, seed=1)
    return folder


def brute_force(
    queries: np.ndarray, bank: np.ndarray, labels: np.ndarray, k: int, temperature: float
) -> list[int]:
    """One query and one neighbor at a time, in double precision."""
    found = []
    for query in queries.astype(float):
        cosine = bank.astype(float) @ query
        votes: dict[int, float] = {}
        for i in np.argsort(-cosine)[:k]:
            votes[labels[i]] = votes.get(labels[i], 0.0) + np.exp(cosine[i] / temperature)
        found.append(int(max(votes, key=votes.__getitem__)))
    return found


# ---------------------------------------------------------------------- the monitor in a run


def scalars(work_dir: Path) -> list[dict[str, Any]]:
    lines = [
        json.loads(line)
        for path in sorted(work_dir.glob('*/vis_data/scalars.json'))
        for line in path.read_text().splitlines()
    ]
    return [line for line in lines if 'knn/top1_k3' in line]


def watching(labeled: Path, workers: int = 0) -> list[dict[str, Any]]:
    bank, queries = str(labeled / 'train'), str(labeled / 'val')
    knn = dict(bank=bank, queries=queries, k=[3, 5], batch_size=4, num_workers=workers)
    return [
        dict(type='KNNMonitor', interval=2, **knn),
        dict(type='FeatureFigures', interval=2),
    ]


@pytest.mark.parametrize(('precision', 'workers'), [((), 0), (('--amp',), 1)], ids=str)
def test_a_run_does_not_notice_its_monitors(
    labeled: Path, tmp_path: Path, precision: tuple[str, ...], workers: int
) -> None:
    images, hooks = labeled / 'train', watching(labeled, workers)
    alone, expected = train(images, tmp_path / 'alone', *precision)
    watched, got = train(images, tmp_path / 'watched', *precision, hooks=hooks)
    assert got.states == expected.states
    for name, value in alone.model.state_dict().items():
        assert torch.equal(watched.model.state_dict()[name], value), name
    assert alone.message_hub.state_dict().keys() == watched.message_hub.state_dict().keys()
    modes = [[m.training for m in run.model.modules()] for run in (alone, watched)]
    assert modes[0] == modes[1]

    logged = scalars(tmp_path / 'watched')
    assert [(line['epoch'], line['step']) for line in logged] == [(0, 0), (2, 10), (3, 15)]
    assert not scalars(tmp_path / 'alone')
    (log,) = (tmp_path / 'watched').glob('*/*.log')
    assert 'k-NN of the teacher after 2 epochs' in log.read_text()


def test_a_resumed_run_does_not_measure_its_start_again(labeled: Path, tmp_path: Path) -> None:
    train(labeled / 'train', tmp_path, hooks=watching(labeled))
    (tmp_path / 'epoch_3.pth').unlink()
    train(labeled / 'train', tmp_path, '--resume', hooks=watching(labeled))
    logged = scalars(tmp_path)
    assert [line['epoch'] for line in logged] == [0, 2, 3, 3]
    assert logged[-1] == logged[-2]  # bit for bit the same run


def test_progress_is_said(labeled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knn, 'SAY_EVERY', -1.0)
    train(labeled / 'train', tmp_path, hooks=watching(labeled)[:1])
    (log,) = tmp_path.glob('*/*.log')
    before_training = log.read_text().partition('k-NN of the teacher after 0 epochs')[0]
    images = len(list((labeled / 'train').rglob('*.png')))
    assert f'KNNMonitor.bank {labeled}/train: {images} images of' in before_training
    assert f'KNNMonitor.queries {labeled}/val: ' in before_training
    for done in range(4, images, 4):  # batches of 4
        assert f'k-NN: {done} of {images} images' in before_training
    assert f'k-NN: {images} of {images} images' in before_training


# ---------------------------------------------------------------------- one process or several


def encode(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    model = tiny_moca(img_size=48).eval()
    paths = sorted(folder.rglob('*.png'))
    images = np.stack([np.asarray(Image.open(path)) for path in paths]) / 255
    normal = (images - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    with torch.no_grad():
        (maps,) = model.teacher(torch.tensor(normal, dtype=torch.float32).permute(0, 3, 1, 2))
    features = maps.mean((2, 3)).double().numpy()
    labels = np.array([int(path.parent.name[-1]) for path in paths])
    return features / np.linalg.norm(features, axis=1, keepdims=True), labels


def expected_scores(labeled: Path, temperature: float = 0.07) -> dict[str, float]:
    (bank, labels), (queries, truth) = encode(labeled / 'train'), encode(labeled / 'val')
    scores = {
        f'knn/top1_k{k}': 100
        * float(np.mean(brute_force(queries, bank, labels, k, temperature) == truth))
        for k in (1, 5, 10)
    }
    return {**scores, 'epoch': 0}


def test_the_monitor_measures_what_brute_force_does(labeled: Path) -> None:
    usual = measure(str(labeled), queries=True)
    assert usual == pytest.approx(expected_scores(labeled))
    assert len(set(usual.values())) == 4, 'a test that tells nothing'
    # next to nobody but the nearest neighbor counts
    cold = measure(str(labeled), queries=True, temperature=0.002)
    assert cold == pytest.approx(expected_scores(labeled, 0.002))
    assert cold != usual


def test_features_that_are_no_numbers_are_refused(labeled: Path) -> None:
    """They would be the nearest neighbors of all, and each query's own class the first."""
    model = tiny_moca(img_size=48)
    model.teacher.norm.bias.data[0] = float('inf')
    with pytest.raises(UserError, match='features are not all finite numbers'):
        KNNMonitor(f'{labeled}/train', k=[1], batch_size=5).before_train(Log(model))


def test_images_are_normalized_as_in_training(labeled: Path, tmp_path: Path) -> None:
    seen = []
    cfg = tiny(CONFIG, labeled / 'train', tmp_path)
    cfg.model.backbone.img_size = cfg.train_dataloader.dataset['views'].size = 48
    cfg.train_dataloader.dataset['views'].update(mean=[0.5, 0.4, 0.3], std=[0.1, 0.2, 0.5])
    add_knn_hook(cfg, str(labeled / 'train'))
    cfg.default_hooks.knn.k = [1]
    runner = Runner.from_cfg(cfg)
    tokens = runner.model.teacher.tokens
    runner.model.teacher.tokens = lambda images: (seen.append(images), tokens(images))[1]
    (monitor,) = (hook for hook in runner.hooks if isinstance(hook, KNNMonitor))
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    monitor.before_train(runner)
    first = np.asarray(Image.open(labeled / 'train/class0/6.png'))  # the last one of its class
    expected = (first / 255 - [0.5, 0.4, 0.3]) / [0.1, 0.2, 0.5]
    np.testing.assert_allclose(seen[0][0].permute(1, 2, 0), expected, rtol=0, atol=1e-5)


def test_nothing_is_compiled_for_it(labeled: Path) -> None:
    graphs = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    model = tiny_moca(img_size=48)
    for block in model.teacher.blocks:
        block.compile(backend=backend)
    model.teacher.tokens(torch.randn(4, 3, 48, 48))
    before = len(graphs)
    assert before > 0
    KNNMonitor(f'{labeled}/train', k=[1], batch_size=5).before_train(Log(model))
    assert len(graphs) == before


def test_processes_share_the_work_and_agree(labeled: Path, tmp_path: Path) -> None:
    # 21 images in the bank and 9 queries: neither divides by two
    run_processes(process, (2, str(labeled), str(tmp_path)))
    for rank in range(2):
        assert torch.load(tmp_path / f'rank{rank}.pth') == pytest.approx(expected_scores(labeled))


def test_a_method_without_a_teacher_is_judged_by_its_student(labeled: Path) -> None:
    model = tiny_moca(img_size=48)
    with torch.no_grad():
        for parameter in model.teacher.parameters():
            parameter.zero_()  # all images look alike to it
    model.student, model.teacher = model.teacher, torch.nn.Identity()
    log = Log(model)
    KNNMonitor(f'{labeled}/train', f'{labeled}/val', k=[5]).before_train(log)
    assert log.scalars['knn/top1_k5'] == pytest.approx(100 / 3)
    model.student = None
    with pytest.raises(UserError, match='no teacher and no student'):
        KNNMonitor(f'{labeled}/train', k=[5]).before_train(log)


# ---------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        (dict(bank='{}/nowhere'), r'KNNMonitor.bank .*nowhere: no such folder.*one subfolder'),
        (dict(bank='{}/train/class0'), r'bank .*class0: .*class folder.*labeled folder has one'),
        (dict(queries='{}/nowhere'), r'KNNMonitor.queries .*nowhere: no such folder'),
        (dict(queries='{}/train/../train'), r'queries .* is the bank.*Give another'),
        (dict(bank='{}/val', queries='{}/more', k=[3]), r'more: the bank .* has no class class3'),
        (dict(k=[5, 22]), r'k=\(5, 22\): the bank .* has 21 images'),
        (dict(k=5), 'KNNMonitor.k=5: give a list'),
        (dict(k=[]), r'KNNMonitor.k=\[\]'),
        (dict(interval=0), r'KNNMonitor.interval is 0'),
        (dict(held_out=1.0), r'KNNMonitor.held_out=1.0: give a share between 0 and 1'),
        (dict(temperature=0), r'KNNMonitor.temperature=0'),
    ],
)
def test_bad_input_is_refused_before_anything_runs(
    labeled: Path, fields: dict[str, Any], message: str
) -> None:
    if not (labeled / 'more').is_dir():
        write_classes(labeled / 'more', per_class=1, seed=2, classes=4)
    given = {**dict(bank='{}/train', queries='{}/val'), **fields}
    given = {key: v.format(labeled) if isinstance(v, str) else v for key, v in given.items()}
    with pytest.raises(UserError, match=message):
        KNNMonitor(**given)


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    write_classes(tmp_path / 'train', per_class=6)
    broken = tmp_path / 'train/class1/3.png'
    broken.write_bytes(broken.read_bytes()[:-300])
    for workers in (0, 1):
        with pytest.raises(UserError, match=r'class1/3.png: cannot be decoded'):
            measure(str(tmp_path), queries=False, num_workers=workers)


def test_a_config_gets_one_monitor(labeled: Path) -> None:
    cfg = tiny(CONFIG, labeled / 'train', labeled / 'work')
    cfg.train_dataloader.num_workers = 3
    add_knn_hook(cfg, 'here')
    add_knn_hook(cfg, 'there', 'elsewhere', interval=5)
    hook = cfg.default_hooks.knn
    expected = dict(bank='there', queries='elsewhere', interval=5, num_workers=3)
    assert dict(hook) == dict(type='KNNMonitor', **expected)
