"""tools/test.py on images without annotations: predictions are written, and no score is printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from tests.configs.helpers import shrink
from tests.detection.own_coco import Content, config, write
from tools import prepare_data, test


def unlabeled(content: Content) -> None:
    """As COCO's image_info_test-dev2017.json, here with names as ids."""
    del content['annotations']
    for row in (*content['images'], *content['categories']):
        row['id'] = f'no. {row["id"]}'


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """Return a function that runs tools/test.py with options on unlabeled images."""
    root = write(tmp_path / 'data', unlabeled)
    cfg = shrink(config(root), factor=4)
    cfg.model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=3)
    path = tmp_path / 'run/own.py'
    path.parent.mkdir()
    cfg.dump(str(path))
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(path).model)
    torch.save(dict(state_dict=model.state_dict()), path.with_name('iter_1.pth'))

    def call(*options: str) -> int:
        return test.main(
            [str(path), str(path.with_name('iter_1.pth')), '--cfg-options', *options],
        )

    return call


def test_a_submission(run: Any, tmp_path: Path, capsys: Any) -> None:
    prefix = tmp_path / 'out/found'
    options = ('test_evaluator.format_only=True', f'test_evaluator.outfile_prefix={prefix}')
    assert run(*options) == 0
    output = capsys.readouterr().out
    assert f'Nothing was evaluated. Predictions are in {prefix}*' in output
    assert '│' not in output  # no table
    found = json.loads(Path(f'{prefix}.bbox.json').read_text())
    assert {row['image_id'] for row in found} == {'no. 1', 'no. 2'}
    assert {row['category_id'] for row in found} <= {'no. 1', 'no. 2'}
    assert json.loads(Path(f'{prefix}.segm.json').read_text())[0]['segmentation']['size'] == [
        64,
        96,
    ]


def test_what_is_missing_is_named(run: Any, capsys: Any) -> None:
    assert run('test_evaluator.format_only=False') == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert 'val.json: 2 images and 0 annotations. To write predictions' in line
    assert run('test_evaluator.format_only=True') == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert 'test_evaluator.format_only needs outfile_prefix' in line


def test_the_check_takes_it_for_a_test_set(tmp_path: Path, capsys: Any) -> None:
    root = write(tmp_path / 'data')
    file = root / 'annotations/test.json'
    content = json.loads((root / 'annotations/val.json').read_text())
    unlabeled(content)
    file.write_text(json.dumps(content))
    cfg = config(root)
    cfg.test_dataloader.dataset.ann_file = 'annotations/test.json'
    cfg.test_evaluator.update(ann_file=str(file), format_only=True, outfile_prefix='x')
    cfg.dump(str(tmp_path / 'own.py'))
    arguments = ['check', str(tmp_path / 'own.py'), '--out', str(tmp_path / 'sheet.png')]
    assert prepare_data.main(arguments) == 0
    assert 'test: no annotations: a test set to predict, not to score' in capsys.readouterr().out
