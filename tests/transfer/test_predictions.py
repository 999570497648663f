"""Predictions in files: in the folders of the images, with the values of the label maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from PIL import Image

from moca.errors import UserError
from moca.segmentation import PresentIoUMetric
from moca.segmentation.label_files import read_values
from moca.transfer.predictions import predict_without_labels
from tests.backbone.helpers import randomize
from tests.configs.helpers import REPOSITORY
from tools.test import main as run_tool

CONFIG = """
_base_ = '{repository}/configs/segmentation/driving/linear-bn.py'
load = dict(type='LoadCheckedAnnotations', {load})
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(48, 32), keep_ratio=False),
    load,
    dict(type='PackSegInputs'),
]
dataset = dict(
    _delete_=True,
    type='BaseSegDataset',
    metainfo=dict(classes=('a', 'b', 'c')),
    data_root='{root}',
    img_suffix='.png',
    data_prefix=dict(img_path='images', seg_map_path='labels'),
    pipeline=pipeline,
    {dataset}
)
loader = dict(num_workers=0, persistent_workers=False, dataset=dataset)
train_dataloader = dict(batch_size=2, **loader)
val_dataloader = loader
test_dataloader = loader
model = dict(
    data_preprocessor=dict(size=(32, 48)),
    backbone=dict(
        img_size=(32, 48),
        arch=dict(_delete_=True, patch_size=16, embed_dim=32, depth=1, num_heads=2),
    ),
    decode_head=dict(num_classes=3, in_channels=32, norm_cfg=None),
)
"""


def write_run(root: Path, load: str = 'num_classes=3', dataset: str = '') -> tuple[Path, Path]:
    """Two sequences whose images have the same names, a config, and random weights of a run."""
    for number, name in enumerate(('a/000', 'a/001', 'b/000')):
        for part in ('images', 'labels'):
            (root / part / name).parent.mkdir(parents=True, exist_ok=True)
        image = np.random.default_rng(number).integers(0, 255, (32, 48, 3), dtype=np.uint8)
        Image.fromarray(image).save(root / 'images' / f'{name}.png')
        label = np.resize(np.array([7, 40, 255], np.uint8), (32, 48))
        Image.fromarray(label).save(root / 'labels' / f'{name}.png')
    config = root / 'config.py'
    config.write_text(CONFIG.format(repository=REPOSITORY, root=root, load=load, dataset=dataset))
    init_default_scope('mmseg')
    model = MODELS.build(Config.fromfile(config).model)
    randomize(model)
    torch.save(dict(state_dict=model.state_dict()), root / 'run.pth')
    return config, root / 'run.pth'


def predicted(root: Path, config: Path, weights: Path, *options: str) -> int:
    arguments = [str(config), str(weights), '--work-dir', str(root / 'test')]
    return run_tool([*arguments, '--cfg-options', 'log_level=ERROR', *options])


def found_in(folder: Path) -> dict[str, Any]:
    return {
        str(path.relative_to(folder)): read_values(path) for path in sorted(folder.rglob('*.png'))
    }


def test_folders_and_values_of_the_files(tmp_path: Path, capsys: Any) -> None:
    """Scored against themselves, as label maps, predictions are right everywhere."""
    config, weights = write_run(tmp_path, 'ids=[7, 40, 255]')
    out = tmp_path / 'predicted'
    assert predicted(tmp_path, config, weights, f'test_evaluator.output_dir={out}') == 0
    found = found_in(out)
    assert list(found) == ['a/000.png', 'a/001.png', 'b/000.png']
    assert not np.array_equal(found['a/000.png'], found['b/000.png'])
    seen = {value for values in found.values() for value in np.unique(values).tolist()}
    assert seen <= {7, 40, 255}
    assert len(seen) > 1
    capsys.readouterr()
    option = 'test_dataloader.dataset.data_prefix.seg_map_path=predicted'
    assert predicted(tmp_path, config, weights, option) == 0
    assert 'aAcc' in (text := capsys.readouterr().out)
    assert text.split('aAcc')[1].split('│')[1].strip() == '100.00'


def test_a_test_set_without_label_maps(tmp_path: Path, capsys: Any) -> None:
    config, weights = write_run(tmp_path, 'ids=[7, 40, 255]')
    out = tmp_path / 'predicted'
    assert predicted(tmp_path, config, weights, f'test_evaluator.output_dir={out}') == 0
    (tmp_path / 'labels').rename(tmp_path / 'elsewhere')
    capsys.readouterr()
    option = 'test_dataloader.dataset.data_prefix.seg_map_path=None'
    assert predicted(tmp_path, config, weights, option) == 0
    assert str(tmp_path / 'test/predictions') in capsys.readouterr().out.replace('\n', '')
    expected, found = found_in(out), found_in(tmp_path / 'test/predictions')
    assert list(found) == list(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


def test_label_maps_for_some_parts_only() -> None:
    part = dict(type='BaseSegDataset', pipeline=[])
    parts = [
        dict(part, data_prefix=dict(img_path='a')),
        dict(part, data_prefix=dict(img_path='b', seg_map_path='c')),
    ]
    loader = dict(dataset=dict(type='ConcatDataset', datasets=parts))
    cfg = Config(dict(test_dataloader=loader, test_evaluator=dict(type='PresentIoUMetric')))
    with pytest.raises(UserError, match='some have none'):
        predict_without_labels(cfg)


def test_no_two_images_share_a_file(tmp_path: Path) -> None:
    metric = PresentIoUMetric(
        root=str(tmp_path), output_dir=str(tmp_path / 'out'), values=[0, 65535], format_only=True
    )
    metric.dataset_meta = dict(classes=('a', 'b'))
    names = ['x/0.jpg', 'x/0.png', 'y/0.png', 'x/0.jpg']
    for number, name in enumerate(names):
        labels = torch.full((1, 4, 5), number % 2)
        metric.process({}, [dict(img_path=str(tmp_path / name), pred_sem_seg=dict(data=labels))])
    assert metric.evaluate(4) == {}
    found = found_in(tmp_path / 'out')
    assert list(found) == ['x/0.png', 'x/0.png.png', 'y/0.png']
    assert [values.max() for values in found.values()] == [65535, 65535, 0]
