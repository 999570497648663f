"""What the command line of tools/train.py makes of a config: weights, labels, folder, seed."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmseg.models.decode_heads import UPerHead

from moca.errors import CheckpointMismatch, UserError
from moca.transfer.overrides import set_arch
from moca.transfer.recipe import warn_of_batch, warn_of_schedule, warn_of_size
from moca.transfer.run import enough_for_batch_norm, prepare_training, random_weights_text
from tests.backbone.helpers import TINY, save, timm_vit
from tests.checkpoints import families
from tests.configs.helpers import REPOSITORY, train_args, write_cityscapes

PROBE = REPOSITORY / 'configs/segmentation/driving/linear-bn.py'


@pytest.fixture(scope='module')
def driving(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cityscapes(tmp_path_factory.mktemp('driving'))


@pytest.fixture(scope='module')
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MOCA's file of both branches, with 4 x 4 positions, in the folder of a run."""
    folder = tmp_path_factory.mktemp('runs') / 'moca'
    folder.mkdir()
    return save(families.moca(timm_vit(TINY), timm_vit(TINY, 1)), folder / 'epoch_3.pth')


@pytest.fixture
def tiny_probe(tmp_path: Path) -> Path:
    """The probe of the TINY backbone, in a config that names no weights."""
    return write_config(tmp_path / 'probe.py')


def write_config(path: Path, text: str = '', **backbone: Any) -> Path:
    backbone = dict(arch=dict(_delete_=True, **TINY), img_size=32, **backbone)
    path.write_text(
        f"_base_ = '{PROBE}'\n"
        f'model = dict(backbone=dict({", ".join(f"{k}={v!r}" for k, v in backbone.items())}))\n'
        f'{text}'
    )
    return path


def prepare(config: Path, data: Path, *arguments: str | Path) -> tuple[Config, dict[str, Any]]:
    return prepare_training(train_args(config, '--data-root', data, *arguments))


def test_default_work_dirs(driving: Path, weights: Path, tiny_probe: Path) -> None:
    def folder(*arguments: str | Path) -> str:
        return prepare(tiny_probe, driving, *arguments)[0].work_dir

    root = 'work_dirs/driving_linear_bn'
    assert folder() == f'{root}/random-init_vit_32x3_patch8_seed0'
    moca = ('--checkpoint', weights)
    assert folder(*moca) == f'{root}/moca-epoch_3_teacher_vit_32x3_patch8_seed0'
    assert folder(*moca, '--branch', 'teacher') == folder(*moca)  # the same, said aloud
    student = folder(*moca, '--branch', 'student', '--name', 'MOCA (demo)', '--seed', '4')
    assert student == f'{root}/MOCA-demo_student_vit_32x3_patch8_seed4'
    assert folder('--work-dir', 'here') == 'here'
    assert folder('--cfg-options', 'work_dir=there') == 'there'


def test_seed_leaves_the_rest_of_randomness(driving: Path, tmp_path: Path) -> None:
    text = 'randomness = dict(seed=1, deterministic=True)\n'
    cfg, _ = prepare(write_config(tmp_path / 'a.py', text), driving, '--seed', '5')
    assert cfg.randomness == dict(seed=5, deterministic=True)


class TestWeightsOfTheConfig:
    def test_they_are_kept_and_named(self, driving: Path, weights: Path, tmp_path: Path) -> None:
        init = dict(type='ViTCheckpoint', checkpoint=str(weights), branch='student')
        config = write_config(tmp_path / 'a.py', init_cfg=init)
        cfg, record = prepare(config, driving)
        assert cfg.model.backbone.init_cfg == init
        content = hashlib.sha256(weights.read_bytes()).hexdigest()
        named = dict(
            name='moca/epoch_3',
            path=str(weights),
            branch='student',
            sha256=content,
            mean=[0.485, 0.456, 0.406],
            std=[0.229, 0.224, 0.225],
            normalized_by='MOCA',
        )
        assert record['checkpoint'] == named
        assert prepare(config, driving, '--name', 'x')[1]['checkpoint'] == dict(named, name='x')
        with pytest.raises(UserError, match='give --checkpoint as well'):
            prepare(config, driving, '--branch', 'teacher')

    def test_they_are_checked(self, driving: Path, weights: Path, tmp_path: Path) -> None:
        init = dict(type='ViTCheckpoint', checkpoint=str(weights))
        config = write_config(tmp_path / 'a.py', init_cfg=init)
        text = config.read_text().replace("'depth': 3", "'depth': 4").replace('depth=3', 'depth=4')
        config.write_text(text)
        with pytest.raises(CheckpointMismatch, match=r'backbone but not in the file: blocks\.3'):
            prepare(config, driving)

    def test_the_command_line_wins(self, driving: Path, weights: Path, tmp_path: Path) -> None:
        init = dict(type='ViTCheckpoint', checkpoint='/nowhere.pth')
        config = write_config(tmp_path / 'a.py', init_cfg=init)
        cfg, record = prepare(config, driving, '--checkpoint', weights)
        assert cfg.model.backbone.init_cfg.checkpoint == record['checkpoint']['path']
        assert record['checkpoint']['path'] == str(weights)


def test_grid_reaches_check_and_loading(driving: Path, tiny_probe: Path, tmp_path: Path) -> None:
    path = save(timm_vit(dict(TINY, img_size=(16, 48))).state_dict(), tmp_path / 'wide.pth')
    with pytest.raises(CheckpointMismatch, match='--grid ROWS COLUMNS'):
        prepare(tiny_probe, driving, '--checkpoint', path)
    cfg, _ = prepare(tiny_probe, driving, '--checkpoint', path, '--grid', '2', '6')
    assert cfg.model.backbone.init_cfg.grid == (2, 6)
    with pytest.raises(UserError, match='give --checkpoint as well'):
        prepare(tiny_probe, driving, '--grid', '2', '6')


def test_random_weights_with_layer_scale_are_named(driving: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path / 'a.py')
    config.write_text(config.read_text().replace("'depth': 3", "'depth': 3, 'init_values': 1e-5"))
    cfg, record = prepare(config, driving)
    assert record['checkpoint']['name'] == 'random init, LayerScale 1e-05'
    assert 'random-init-LayerScale-1e-05' in cfg.work_dir


def test_averaged_weights_are_another_protocol(driving: Path, tiny_probe: Path) -> None:
    cfg, record = prepare(tiny_probe, driving, '--ema')
    assert cfg.default_hooks.ema == dict(type='AveragedWeights', momentum=2e-4)
    assert (record['protocol'], record['published']) == ('driving_linear_bn_ema', None)
    assert record['title'].endswith(', EMA')
    assert record['ema'] == dict(momentum=2e-4)
    assert 'work_dirs/driving_linear_bn_ema/' in cfg.work_dir
    assert prepare(tiny_probe, driving, '--ema', '0.01')[1]['ema'] == dict(momentum=0.01)
    assert prepare(tiny_probe, driving)[1]['ema'] is None
    with pytest.raises(UserError, match=r'--ema 1: .* between 0 and 1'):
        prepare(tiny_probe, driving, '--ema', '1')


def test_a_config_that_averages_weights_itself(driving: Path, tmp_path: Path) -> None:
    text = "custom_hooks = [dict(type='EMAHook', momentum=0.1)]\n"
    config = write_config(tmp_path / 'a.py', text)
    assert prepare(config, driving)[1]['ema'] == dict(momentum=0.1)
    with pytest.raises(UserError, match='averages weights already'):
        prepare(config, driving, '--ema')


def test_rate_is_scaled_by_the_batch_of_a_step(driving: Path, tiny_probe: Path) -> None:
    rate = prepare(tiny_probe, driving)[0].optim_wrapper.optimizer.lr
    batch = ('--cfg-options', 'train_dataloader.batch_size=6')
    counted = (*batch, 'optim_wrapper.accumulative_counts=4')
    for options, share in (
        (batch, 6 / 8),
        ((*batch, '--accumulate', '4'), 4 * 6 / 8),
        (counted, 4 * 6 / 8),
    ):
        cfg, _ = prepare(tiny_probe, driving, '--auto-scale-lr', *options)
        assert cfg.optim_wrapper.optimizer.lr == pytest.approx(rate * share)
        assert cfg.auto_scale_lr == dict(enable=False, base_batch_size=round(8 * share))
        assert cfg.train_cfg.type == ('AccumulatingIterLoop' if share > 1 else 'IterBasedTrainLoop')
        assert prepare(tiny_probe, driving, *options)[0].optim_wrapper.optimizer.lr == rate


def test_sizes_without_their_published_recipe_are_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr('moca.transfer.recipe.print_log', lambda text, *_, **__: said.append(text))

    def warned(arch: str, name: str = 'ade20k/upernet_ibot', **options: Any) -> str:
        said.clear()
        cfg = Config.fromfile(REPOSITORY / f'configs/segmentation/{name}.py')
        set_arch(cfg, arch)
        cfg.merge_from_dict(options)
        warn_of_size(cfg)
        return ' '.join(said)

    assert not warned('vit_base_patch16')
    assert not warned('vit_small_patch16', 'cityscapes/linear')  # a probe has no such numbers
    small = warned('vit_small_patch16')
    assert 'optim_wrapper.optimizer.lr=3e-05' in small
    assert 'optim_wrapper.paramwise_cfg.layer_decay=0.9' in small
    assert 'drop_path' not in small  # as it is
    rate = {'optim_wrapper.optimizer.lr': 3e-5, 'optim_wrapper.paramwise_cfg.layer_decay': 0.9}
    assert not warned('vit_small_patch16', **rate)
    assert 'model.backbone.drop_path_rate=0.2' in warned('vit_large_patch16')
    assert 'not for a ViT tiny' in warned('vit_tiny_patch16')
    assert 'not for a ViT large' in warned('vit_large_patch16', 'ade20k/upernet')


def test_rate_is_not_scaled_from_an_unknown_batch(driving: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path / 'a.py', 'auto_scale_lr = dict(_delete_=True)\n')
    with pytest.raises(UserError, match=r'auto_scale_lr\.base_batch_size=N'):
        prepare(config, driving, '--auto-scale-lr')


class TestWarnings:
    @pytest.fixture
    def logged(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        texts: list[str] = []

        def log(text: str, logger: Any, level: int) -> None:
            assert level == logging.WARNING
            texts.append(text)

        for module in ('recipe', 'run'):
            monkeypatch.setattr(f'moca.transfer.{module}.print_log', log)
        return texts

    @staticmethod
    def runner(*options: str) -> Any:
        cfg = Config.fromfile(PROBE)
        cfg.merge_from_dict(dict(option.split('=') for option in options))
        cfg.train_cfg.max_iters = int(cfg.train_cfg.max_iters)
        return SimpleNamespace(cfg=cfg, world_size=2, logger=None)

    def test_batch(self, logged: list[str]) -> None:
        warn_of_batch(self.runner())
        (text,) = logged
        assert "batch is 16 and the recipe's is 8" in text
        assert 'accumulative_counts' not in text

    def test_schedule_of_another_length(self, logged: list[str]) -> None:
        warn_of_schedule(self.runner())
        assert not logged
        warn_of_schedule(self.runner('train_cfg.max_iters=100'))
        warn_of_schedule(self.runner('train_cfg.max_iters=600'))
        short, long = logged
        assert 'train_cfg.max_iters is 100, but param_scheduler.1.end is 300' in short
        assert 'train_cfg.max_iters is 600, but param_scheduler.1.end is 300' in long

    def test_random_weights(self) -> None:
        archs = (TINY, dict(TINY, init_values=1e-5))
        backbones = [dict(type='PlainViT', arch=arch) for arch in archs]
        plain, scaled = (
            random_weights_text(Config(dict(model=dict(backbone=backbone))))
            for backbone in backbones
        )
        assert 'random weights' in plain
        assert 'LayerScale' not in plain
        assert 'LayerScale starts from 1e-05' in scaled

    def test_every_recipe_is_consistent(self, logged: list[str]) -> None:
        paths = [*(REPOSITORY / 'configs/segmentation').rglob('*.py')]
        paths += (REPOSITORY / 'configs/detection').rglob('*.py')
        for path in paths:
            warn_of_schedule(SimpleNamespace(cfg=Config.fromfile(path), logger=None))
        assert len(paths) >= 5
        assert not logged


def test_a_single_image_that_is_pooled_to_one_value_is_an_error_with_its_remedy() -> None:
    head = UPerHead(
        **dict(in_channels=[8, 8], in_index=[0, 1], channels=8, num_classes=3, pool_scales=(1, 2)),
        norm_cfg=dict(type='BN'),
        align_corners=False,
    )
    features = [torch.zeros(1, 8, 8, 8), torch.zeros(1, 8, 4, 4)]
    with (
        pytest.raises(UserError, match=r'train_dataloader\.batch_size: .* two images'),
        enough_for_batch_norm(),
    ):
        head(features)
    with pytest.raises(ValueError, match='another'), enough_for_batch_norm():
        raise ValueError('another')
    with enough_for_batch_norm():
        assert head([feature.expand(2, -1, -1, -1) for feature in features]).shape[1] == 3
