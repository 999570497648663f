"""Every config of in-context and CAPI segmentation is built and run on tiny data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moca.engine.cli import read_config
from moca.errors import UserError
from moca.evaluation.run import evaluate, prepare_evaluation
from tests.configs.helpers import (
    OTHER_VITS,
    REPOSITORY,
    write_ade20k,
    write_cityscapes,
    write_coco_semantic,
    write_voc,
)
from tests.configs.image_helpers import file_of_half
from tools.train import parse_args

CONFIGS = sorted(
    path
    for name in ('in-context', 'capi')
    for path in (REPOSITORY / 'configs' / 'dense').glob(f'{name}*.py')
)
ARCH = dict(patch_size=16, embed_dim=32, depth=2, num_heads=2, img_size=32)
# The config's own kind and others, which the configs take in turn.
KINDS = {'plain': ARCH, **{name: {**arch, **ARCH} for name, arch in OTHER_VITS.items()}}
SMALL = {
    'InContext': ['evaluation.memory=60', 'evaluation.epochs=1', 'evaluation.neighbors=3'],
    'CapiKNN': ['evaluation.k=(1,3)'],
    'CapiLogreg': ['evaluation.strengths=(0.01,1.0)'],
}


WRITERS: dict[str, tuple[Callable[..., Path], dict[str, Any]]] = {
    'voc': (write_voc, dict(train=12)),
    'ade20k': (write_ade20k, dict(train=12)),
    'cityscapes': (write_cityscapes, dict(train=12)),
    'driving': (write_cityscapes, dict(train=12)),
    'coco': (write_coco_semantic, {}),
}


@pytest.fixture(scope='module')
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny data set for every part of a config's name that tells one."""
    return {
        name: writer(tmp_path_factory.mktemp(name) / 'data', **counts)
        for name, (writer, counts) in WRITERS.items()
    }


def run(
    config: Path, root: Path, work_dir: Path, *options: str, kind: str = 'plain'
) -> dict[str, Any]:
    cfg = read_config(config)
    settings = [
        'model.backbone.img_size=32',
        'evaluation.size=32',
        'loading.num_workers=0',
        *SMALL[cfg.evaluation.type],
        *options,
    ]
    arguments = [str(config), '--data-root', str(root), '--work-dir', str(work_dir)]
    if kind == 'other statistics':
        arguments += file_of_half(KINDS[kind], work_dir)
    args = parse_args([*arguments, '--cfg-options', *settings])
    args.arch = KINDS[kind]
    path = evaluate(*prepare_evaluation(args))
    return dict(json.loads(path.read_text()))


CASES = [(config, list(KINDS)[number % len(KINDS)]) for number, config in enumerate(CONFIGS)]


@pytest.mark.parametrize(('config', 'kind'), CASES, ids=lambda each: getattr(each, 'stem', each))
def test_the_config_runs(config: Path, kind: str, roots: dict[str, Path], tmp_path: Path) -> None:
    data = config.stem.split('_')[1]
    record = run(config, roots[data], tmp_path, kind=kind)
    if kind == 'other statistics':
        assert record['checkpoint']['mean'] == record['checkpoint']['std'] == [0.5] * 3
    assert record['status'] == 'finished'
    assert record['protocol'] == config.stem.replace('-', '_')
    assert record['task'] == 'dense'
    assert set(record['main_metrics']) <= set(record['metrics'])
    assert all(0 <= value <= 100 for value in record['metrics'].values())
    assert record['settings']['size'] == 32
    classes = dict(voc=21, ade20k=151, cityscapes=19, driving=19, coco=133)
    assert record['settings']['classes'] == classes[data]
    assert record['val_images'] == 2
    if data == 'ade20k':
        assert 0 in record['settings']['ignored']
    assert len(list((tmp_path / 'predictions').glob('*.png'))) == (
        2 if 'memory' in record['settings'] else 0
    )
    memory = read_config(config).evaluation.get('memory')
    if '1024e' in config.stem:
        assert memory == 1024 * 10 ** int(config.stem[-1])


def test_a_few_images_are_named_by_a_list(roots: dict[str, Path], tmp_path: Path) -> None:
    root = roots['voc']
    (root / 'few.txt').write_text('2007_t00003\n2007_t00008\n')
    config = REPOSITORY / 'configs' / 'dense' / 'in-context_voc_1024e2.py'
    record = run(config, root, tmp_path, 'evaluation.train.ann_file=few.txt')
    assert record['train_images'] == 2


def test_another_layout_is_refused_by_what_was_looked_for(
    roots: dict[str, Path], tmp_path: Path
) -> None:
    config = REPOSITORY / 'configs' / 'dense' / 'capi-knn_ade20k.py'
    with pytest.raises(UserError, match=r'images/training: no such folder \(evaluation\.train'):
        run(config, roots['cityscapes'], tmp_path)
    assert not (tmp_path / 'run.json').exists()


def test_a_misspelt_setting_is_named(roots: dict[str, Path], tmp_path: Path) -> None:
    config = REPOSITORY / 'configs' / 'dense' / 'in-context_driving.py'
    with pytest.raises(UserError, match='neighbours'):
        run(config, roots['driving'], tmp_path, 'evaluation.neighbours=3')
