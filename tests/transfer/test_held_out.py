"""--held-out and --subset beyond segmentation: images with depth maps, and images of classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope

import moca.transfer  # noqa: F401  (registers the data sets)
from moca.errors import UserError
from moca.transfer.held_out import set_held_out
from moca.transfer.overrides import set_data_root
from moca.transfer.recipe import FOLDS, set_subset
from tests.configs.helpers import REPOSITORY
from tests.configs.image_helpers import prepare, tiny_config
from tests.depth.rooms import write_rooms
from tests.evaluation.classification.conftest import write_images

CLASSES = ['ant', 'bee', 'cow', 'dog']


def names_of(dataset: dict[str, object]) -> list[str]:
    built = DATASETS.build({**dataset, 'pipeline': []})
    return [Path(built.get_data_info(i)['img_path']).name for i in range(len(built))]


@pytest.fixture
def depth(tmp_path: Path) -> Config:
    write_rooms(tmp_path, 5, 2, (28, 42))
    cfg = Config.fromfile(REPOSITORY / 'configs/depth/own_linear.py')
    set_data_root(cfg, tmp_path)
    init_default_scope('mmseg')
    return cfg


def test_depth_maps_are_held_out(depth: Config) -> None:
    everything = names_of(depth.train_dataloader.dataset)
    assert set_held_out(depth, 0.4) == dict(share=0.4, images=2)
    train, val = (names_of(depth[f'{split}_dataloader'].dataset) for split in ('train', 'val'))
    assert sorted(train + val) == sorted(everything)
    assert len(val) == 2
    kinds = [step.type for step in depth.val_dataloader.dataset.pipeline]
    assert not [kind for kind in kinds if kind.startswith('Random')]
    assert depth.protocol.name == 'own_linear_depth_held_out'


def test_few_depth_maps_are_the_first_of_the_published_order(depth: Config) -> None:
    everything = names_of(depth.train_dataloader.dataset)
    assert set_subset(depth, 2, 1) == dict(images=2, fold=1)
    places = np.random.RandomState(FOLDS[1]).permutation(5)[:2]
    expected = [sorted(everything)[place] for place in places]
    assert names_of(depth.train_dataloader.dataset) == expected
    assert depth.train_cfg.max_iters == depth.param_scheduler[0].end == 120


def test_images_of_each_class_are_held_out(tmp_path: Path) -> None:
    write_images(tmp_path / 'train', CLASSES, 10)
    write_images(tmp_path / 'val', CLASSES, 3, seed=1)
    config = tiny_config('finetune', tmp_path)
    cfg, record = prepare(config, tmp_path, tmp_path / 'run', '--held-out', '0.2')
    assert record['held_out'] == dict(share=0.2, images=8)
    assert record['protocol'] == 'imagenet_finetune_held_out'
    train, val = (DATASETS.build(cfg[f'{split}_dataloader'].dataset) for split in ('train', 'val'))
    assert (len(train), len(val), val.scored) == (32, 8, 8)
    last = {f'{tmp_path}/train/{name}/0{number}.png' for name in CLASSES for number in (8, 9)}
    assert {*val.paths} == last
    assert not last & {*train.paths}
    with pytest.raises(UserError, match=r'--held-out 1\.5: give a share'):
        prepare(config, tmp_path, tmp_path / 'run', '--held-out', '1.5')
    sweep = tiny_config('linear_cifar10', tmp_path)
    with pytest.raises(UserError, match=r'holds 0\.1 of each class out by itself'):
        prepare(sweep, tmp_path, tmp_path / 'run', '--held-out', '0.2')
