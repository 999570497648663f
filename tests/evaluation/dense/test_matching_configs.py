"""Configs of DAVIS, SPair-71k and LOST, run as tools/train.py does on tiny data."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from moca.evaluation.run import evaluate, prepare_evaluation
from tests.evaluation.dense.trees import (
    moving_video,
    write_coco_boxes,
    write_davis,
    write_spair,
    write_voc_boxes,
)
from tools.train import parse_args

CONFIGS = Path(__file__).parents[3] / 'configs' / 'dense'
NAMES = sorted(
    path.stem for kind in ('davis', 'spair', 'lost') for path in CONFIGS.glob(f'{kind}_*.py')
)
SMALL = {
    'davis': ['evaluation.short_side=64'],
    'spair': ['evaluation.size=40', 'evaluation.size_14=42'],
    'lost': [],
    'lost_own-coco': [
        'evaluation.annotations=annotations/instances_train2014.json',
        'evaluation.images=train2014',
    ],
}
ARCH = dict(patch_size=16, embed_dim=32, depth=2, num_heads=2, img_size=32)


@pytest.fixture(scope='module')
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp('data')
    coco = write_coco_boxes(root / 'coco')
    return {
        'davis': write_davis(root / 'davis', {'one': moving_video(0), 'two': moving_video(3)}),
        'spair': write_spair(root / 'spair'),
        'lost': write_voc_boxes(root / 'voc', {'a': [[5, 5, 40, 40]], 'b': [[1, 1, 64, 48]]}),
        'lost_coco20k': coco,
        'lost_own-coco': coco,
    }


def arguments(name: str, roots: dict[str, Path], out: Path) -> Any:
    kind = name.split('_')[0]
    options = SMALL.get(name, SMALL[kind])
    root = roots.get(name, roots[kind])
    config = CONFIGS / f'{name}.py'
    given = [str(config), '--data-root', str(root), '--work-dir', str(out)]
    args = parse_args([*given, *(['--cfg-options', *options] if options else [])])
    args.cfg_options = {**args.cfg_options, 'model.backbone.arch': {'_delete_': True, **ARCH}}
    return args


def record_of(name: str, roots: dict[str, Path], out: Path) -> dict[str, Any]:
    return json.loads(evaluate(*prepare_evaluation(arguments(name, roots, out))).read_text())


@pytest.fixture(scope='module')
def records() -> dict[str, dict[str, Any]]:
    """What was measured already, by config."""
    return {}


@pytest.mark.parametrize('name', NAMES)
def test_every_config_is_run(
    name: str,
    roots: dict[str, Path],
    tmp_path: Path,
    records: dict[str, dict[str, Any]],
) -> None:
    record = records[name] = record_of(name, roots, tmp_path)
    assert record['status'] == 'finished'
    assert record['protocol'] == name.replace('-', '_')  # which says the preset
    assert record['iterations'] == 0
    assert record['val_images'] == {'davis': 2, 'spair': 4, 'lost': 2}[name.split('_')[0]]
    metrics = record['metrics']
    assert set(record['main_metrics']) <= set(metrics)
    known = {name: value for name, value in metrics.items() if value is not None}
    assert all(math.isfinite(value) for value in known.values())
    # no tiny pair has the third viewpoint
    assert set(metrics) - set(known) <= {'PCK_viewpoint2'}
    if name == 'spair_dinov3':
        assert record['chosen']['norm'] in ('none', 'final')
        both = record['chosen']['PCK_norm_none'], record['chosen']['PCK_norm_final']
        assert metrics['PCK'] == pytest.approx(max(both), abs=0.01)
    if name.startswith('lost'):
        assert 'not of unit length' in record['settings']['features']


@pytest.mark.parametrize('name', ['davis_dino', 'spair_probe3d', 'lost_voc07'])
def test_a_run_is_repeated_to_the_digit(
    name: str, roots: dict[str, Path], tmp_path: Path, records: dict[str, dict[str, Any]]
) -> None:
    first = records.get(name) or record_of(name, roots, tmp_path / 'first')
    torch.manual_seed(7)
    again = record_of(name, roots, tmp_path)
    assert (again['metrics'], again['settings']) == (first['metrics'], first['settings'])
