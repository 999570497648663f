"""Few-shot subsets: the published rule, the recipe's length, and what the run is called."""

from __future__ import annotations

import statistics
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope

from moca.errors import UserError
from moca.records.run_reading import Run
from moca.results.leaderboard import build_leaderboard
from moca.results.published import published_results
from moca.transfer.overrides import set_data_root
from moca.transfer.recipe import set_subset, shorten, warn_of_schedule
from moca.transfer.run import prepare_training
from tests.configs.helpers import REPOSITORY, train_args, write_cityscapes

LINEAR = REPOSITORY / 'configs/segmentation/cityscapes/linear.py'
PUBLISHED_SEEDS = (12345, 23456, 34567, 45678, 56789)


@pytest.fixture(scope='module')
def names(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """As many (empty) images as Cityscapes has, under names of its kind."""
    root = tmp_path_factory.mktemp('cityscapes')
    made = [f'{city}/{city}_{i:06d}_000019' for city in ('ulm', 'aachen') for i in range(1488)][1:]
    for city in ('ulm', 'aachen'):
        for part in ('leftImg8bit', 'gtFine'):
            (root / part / 'train' / city).mkdir(parents=True)
    for name in made:
        (root / 'leftImg8bit/train' / f'{name}_leftImg8bit.png').touch()
        (root / 'gtFine/train' / f'{name}_gtFine_labelTrainIds.png').touch()
    assert len(made) == 2975
    return root, made


def subset_of(root: Path, count: int, seed: int, config: Path = LINEAR) -> Config:
    cfg = Config.fromfile(config)
    set_data_root(cfg, root)
    set_subset(cfg, count, seed)
    return cfg


@pytest.mark.parametrize('count', [100, 372])
def test_the_published_rule(names: tuple[Path, list[str]], count: int) -> None:
    """First n of RandomState(seed).permutation(2975) over the sorted "city/name" list."""
    root, made = names
    init_default_scope('mmseg')
    drawn = []
    for fold, published_seed in enumerate(PUBLISHED_SEEDS):
        places = np.random.RandomState(published_seed).permutation(2975)[:count]
        wanted = [sorted(made)[place] for place in places]
        cfg = subset_of(root, count, seed=fold)
        dataset = DATASETS.build({**cfg.train_dataloader.dataset, 'pipeline': []})
        paths = [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]
        assert paths == [f'{root}/leftImg8bit/train/{name}_leftImg8bit.png' for name in wanted]
        drawn.append(frozenset(wanted))
    assert len(set(drawn)) == 5
    repeated = subset_of(root, count, seed=7).train_dataloader.dataset.indices  # fold 2 again
    assert repeated == subset_of(root, count, seed=2).train_dataloader.dataset.indices


def test_a_list_in_another_order_gives_the_same_images(
    names: tuple[Path, list[str]], tmp_path: Path
) -> None:
    root, made = names
    (tmp_path / 'list.txt').write_text('\n'.join(reversed(made)))
    cfg = Config.fromfile(LINEAR)
    set_data_root(cfg, root)
    cfg.train_dataloader.dataset.ann_file = str(tmp_path / 'list.txt')
    set_subset(cfg, 100, 3)
    listed = [list(reversed(made))[place] for place in cfg.train_dataloader.dataset.indices]
    sorted_names = sorted(made)
    places = subset_of(root, 100, 3).train_dataloader.dataset.indices
    assert listed == [sorted_names[place] for place in places]


def test_epochs_stay(names: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """216 epochs at every size: about 2.8k / 10k / 80k steps at batch 8."""
    warnings: list[Any] = []

    def keep(text: str, *_: Any, **__: Any) -> None:
        if not text.startswith(f'--subset: {count} of 2975'):  # which says what was chosen
            warnings.append(text)

    monkeypatch.setattr('moca.transfer.recipe.print_log', keep)
    for name, count, steps, warm_up in (
        ('linear', 100, 2689, None),
        ('linear', 372, 10_003, None),
        ('linear', 2975, 80_000, None),
        ('linear-bn', 100, 1345, 50),
        ('mask-finetune', 372, 10_003, None),
    ):
        cfg = subset_of(names[0], count, 0, LINEAR.with_name(f'{name}.py'))
        assert cfg.train_cfg.max_iters == cfg.param_scheduler[-1].end == steps
        full = 40_000 if name == 'linear-bn' else 80_000
        assert steps / full == pytest.approx(count / 2975, rel=1e-3)
        if warm_up:
            assert (cfg.param_scheduler[0].begin, cfg.param_scheduler[0].end) == (0, warm_up)
        assert cfg.train_cfg.val_interval == min(20_000, steps)
        assert cfg.default_hooks.checkpoint.interval == min(2000, steps)
        warn_of_schedule(SimpleNamespace(cfg=cfg, logger=None))
    assert not warnings


def test_published_results_of_the_size(names: tuple[Path, list[str]]) -> None:
    library = published_results()
    for name, task in (('linear', 'linear'), ('mask-finetune', 'finetune')):
        for count in (100, 372, 2975):
            cfg = subset_of(names[0], count, 0, LINEAR.with_name(f'{name}.py'))
            assert cfg.protocol.published == f'cityscapes_{task}_{count}'
            size = dict(train_images=count, val_images=500)
            assert library['images'][cfg.protocol.published] == size
        assert subset_of(names[0], 50, 0, LINEAR.with_name(f'{name}.py')).protocol.published is None


def test_five_seeds_are_a_cell_beside_the_published_value() -> None:
    def run(seed: int, value: float) -> Run:
        return Run(
            *(Path(f'run{seed}'), 'cityscapes_linear', 'Cityscapes linear'),
            published='cityscapes_linear_100',
            **dict(checkpoint='dino', branch=None, arch='vit_base_patch16', path='dino.pth'),
            **dict(seed=seed, train_images=100, val_images=500, iterations=2689, seconds=1.0),
            metrics=dict(mIoU=value),
            shown=('mIoU',),
            finished_at=f'2026-01-0{seed + 1}',
        )

    values = [45.1, 46.0, 44.2, 47.3, 45.5]
    board = build_leaderboard([run(seed, value) for seed, value in enumerate(values)])
    (column,) = board.columns
    ours = board.cells[board.rows[0], column]
    assert ours.mean == pytest.approx(statistics.fmean(values))
    assert ours.deviation == pytest.approx(statistics.stdev(values))
    (dino,) = [row for row in board.rows if row.name == 'DINO']
    assert board.cells[dino, column].mean == 45.8


@pytest.fixture(scope='module')
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cityscapes(tmp_path_factory.mktemp('small'))


def test_a_run_says_what_it_was_trained_on(images: Path) -> None:
    def prepare(*arguments: str) -> tuple[Config, dict[str, Any]]:
        return prepare_training(train_args(LINEAR, '--data-root', images, *arguments))

    cfg, record = prepare('--subset', '2', '--seed', '6')
    assert record['subset'] == dict(images=2, fold=1)
    assert cfg.work_dir.endswith('random-init_vit_base_patch16_2images_seed6')
    assert cfg.train_cfg.max_iters == 40_000
    options = ('--cfg-options', 'train_cfg.max_iters=10', 'randomness.seed=2')
    cfg, record = prepare('--subset', '2', '--seed', '6', *options)
    assert (cfg.train_cfg.max_iters, cfg.randomness.seed) == (10, 6)
    cfg, record = prepare('--subset', '2', *options)
    assert record['subset'] == dict(images=2, fold=2)
    assert prepare()[1]['subset'] is None


@pytest.mark.parametrize(
    ('change', 'count', 'message'),
    [
        ({}, 5, r'--subset 5: there are 4 training images'),
        ({}, 0, r'--subset 0: there are'),
        ({'train_dataloader.dataset.indices': [0]}, 1, 'draws from a whole data set, .* 1 of 4'),
        ({'protocol.task': 'detection'}, 1, 'annotation file of fewer images'),
        ({'protocol.task': 'image'}, 1, r'lowshot\*\.py'),
    ],
)
def test_refusals(images: Path, change: dict[str, Any], count: int, message: str) -> None:
    cfg = Config.fromfile(LINEAR)
    set_data_root(cfg, images)
    cfg.merge_from_dict(change)
    with pytest.raises(UserError, match=message):
        set_subset(cfg, count, 0)


@pytest.mark.parametrize(
    ('config', 'half'),
    [
        ('depth/nyu_linear', 1 / 3),  # a share of the run
        ('segmentation/ade20k/linear-bn_dinov3', 750),
        ('segmentation/ade20k/eomt_dinov3', [1000, 1500]),
    ],
)
def test_warm_ups_are_shortened_where_they_count_steps(config: str, half: Any) -> None:
    cfg = Config.fromfile(REPOSITORY / f'configs/{config}.py')
    length = cfg.train_cfg.max_iters
    shorten(cfg, 0.5)
    assert cfg.param_scheduler[0].warmup == half
    assert cfg.param_scheduler[0].end == length // 2
