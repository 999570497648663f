"""Every config of k-NN and low-shot: run from the command line's arguments to its record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mmengine.config import Config

from moca.evaluation.run import evaluate, is_evaluation, prepare_evaluation
from moca.records.run_reading import read_runs
from tests.configs.helpers import REPOSITORY
from tests.configs.image_helpers import KINDS, file_of_half, kind_of
from tests.evaluation.image_data import write_images
from tools.train import parse_args

CONFIGS = {
    path.stem: Config.fromfile(str(path))
    for path in sorted((REPOSITORY / 'configs/imagenet').glob('*.py'))
    if path.stem.startswith(('knn', 'lowshot'))
}
CLASSES = dict(ant=6, bee=5, cow=5)
TINY = """
_base_ = {path!r}
model = dict(backbone=dict(arch=dict(_delete_=True, **{arch!r}), img_size=16))
loading = dict(num_workers=0, cache=None)
"""


@pytest.fixture(scope='module')
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images in class folders, and lists of them as the published ones are."""
    root = tmp_path_factory.mktemp('images')
    write_images(root / 'data/train', CLASSES)
    for seed, split in enumerate(('val', 'test'), 1):
        write_images(root / 'data' / split, dict.fromkeys(CLASSES, 2), seed)
    for folder in (root / 'data/train').iterdir():
        for path in folder.iterdir():
            path.rename(folder / f'{folder.name}_{path.name}')
    (root / 'data/subsets').mkdir()
    for name, count in (('1shot', 1), ('2shot', 2), ('5shot', 5), ('1pct', 3)):
        listed = [f'{c}_{number:02d}.png' for c in CLASSES for number in range(count)]
        (root / 'data/subsets' / f'{name}.txt').write_text('\n'.join(listed))
    return root


def test_there_are_configs() -> None:
    forms = ('', '_cifar10', '_cifar100', '_tiny-imagenet', '_own-images')
    assert {kind + form for kind in ('knn', 'lowshot') for form in forms} <= CONFIGS.keys()
    names = [cfg.protocol.name for cfg in CONFIGS.values()]
    assert len(set(names)) == len(names)


# Each on another kind of ViT in turn.
CASES = [
    (name, kind_of(number, cfg.evaluation.feature))
    for number, (name, cfg) in enumerate(CONFIGS.items())
]


def test_all_kinds_are_run() -> None:
    assert {kind for _, kind in CASES} == KINDS.keys()


@pytest.mark.parametrize(('name', 'kind'), CASES)
def test_run(name: str, kind: str, place: Path, tmp_path: Path) -> None:
    path = str(REPOSITORY / f'configs/imagenet/{name}.py')
    assert is_evaluation(path)
    config = tmp_path / f'{name}.py'
    config.write_text(TINY.format(path=path, arch=KINDS[kind]))
    options = ['--cfg-options', 'evaluation.k=[1,3]'] if 'knn' in name else []
    words = [config, '--data-root', place / 'data', '--work-dir', tmp_path / 'run', *options]
    if kind == 'other statistics':
        words[1:1] = file_of_half(KINDS[kind], tmp_path)
    args = parse_args([str(word) for word in words])
    record = json.loads(evaluate(*prepare_evaluation(args)).read_text())
    if kind == 'other statistics':
        assert record['checkpoint']['mean'] == record['checkpoint']['std'] == [0.5] * 3
    assert record['status'] == 'finished'
    assert record['val_images'] == 6
    assert record['settings']['classes'] == 3
    (run,), omitted = read_runs([tmp_path])  # all of the protocol's metrics are there
    assert not omitted
    assert all(0 <= run.metrics[metric] <= 100 for metric in run.shown)
