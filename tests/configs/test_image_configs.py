"""Every config that trains a classifier of images: built as tools/train.py does, and stepped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from moca.transfer.overrides import set_statistics
from moca.transfer.run_record import percent_metrics
from tests.configs.helpers import REPOSITORY
from tests.configs.image_helpers import KINDS, kind_of, prepare, tiny_config
from tests.evaluation.classification.conftest import write_images

CONFIGS = {
    path.stem: config
    for path in sorted((REPOSITORY / 'configs/imagenet').glob('*.py'))
    if (config := Config.fromfile(str(path))).get('train_dataloader')
}
PEAKS = {
    'finetune': 4e-3,  # 1e-3 x 1024 / 256
    'finetune-mae': 2e-3,
    'finetune_cifar10': 1e-3,
    'linear': 36.0,  # the last of 45 rates
    'linear-mae': 6.4,
    'linear_cifar100': 18.0,
}


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes, of twelve training images and two for testing under either name."""
    root = tmp_path_factory.mktemp('images')
    for seed, (split, count) in enumerate((('train', 12), ('val', 2), ('test', 2))):
        write_images(root / split, ['ant', 'bee', 'cow'], count, seed)
    return root


def test_there_are_configs() -> None:
    assert {'linear', 'linear-mae', 'finetune', 'finetune-mae'} <= CONFIGS.keys()


@pytest.mark.parametrize('name', PEAKS)
def test_rate_of_the_recipes_batch(name: str) -> None:
    cfg = CONFIGS[name]
    rate = cfg.optim_wrapper.optimizer.lr * cfg.auto_scale_lr.base_batch_size / 256
    largest = 9.0 if cfg.model.head.type == 'SweepHead' else 1.0
    assert rate * largest == pytest.approx(PEAKS[name])


@pytest.mark.parametrize('name', CONFIGS)
def test_fine_tuning_alone_is_tested_on_whole_images_above_224(name: str) -> None:
    """facebookresearch/mae, util/datasets.py:53-57; its main_linprobe.py knows 224 alone."""
    for loader in (CONFIGS[name].val_dataloader, CONFIGS[name].test_dataloader):
        assert loader.dataset.get('whole_above') == (224 if 'finetune' in name else None)


# Each on another kind of ViT in turn.
CASES = [
    (name, kind_of(number, cfg.model.feature)) for number, (name, cfg) in enumerate(CONFIGS.items())
]


def test_all_kinds_are_stepped() -> None:
    assert {kind for _, kind in CASES} == KINDS.keys()


@pytest.mark.parametrize(('name', 'kind'), CASES)
def test_step_and_prediction(name: str, kind: str, data: Path, tmp_path: Path) -> None:
    config = tiny_config(name, tmp_path, classes=3, kind=kind)
    cfg, _ = prepare(config, data, tmp_path / 'run', train_dataloader__batch_size=4)
    if kind == 'other statistics':
        set_statistics(cfg, [0.5] * 3, [0.5] * 3, 'the checkpoint')
    runner = Runner.from_cfg(cfg)
    model: Any = runner.model
    if kind == 'other statistics':
        assert model.data_preprocessor.mean.flatten().tolist() == [0.5] * 3
    assert (model.backbone.rope is not None) == (kind == 'rotary')
    assert (model.backbone.cls_token is None) == (kind == 'no class token')
    model.init_weights()
    wrapper = runner.build_optim_wrapper(cfg.optim_wrapper)
    batch = next(iter(runner.build_dataloader(cfg.train_dataloader)))
    assert batch['inputs'].shape == (4, 3, 16, 16)
    model.train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    losses = model.train_step(batch, wrapper)
    assert torch.isfinite(losses['loss'])
    changed = {k for k, v in model.state_dict().items() if not torch.equal(before[k], v)}
    assert any(key.startswith('head.') for key in changed)
    assert any(key.startswith('backbone.') for key in changed) != model.backbone.frozen

    loader = runner.build_dataloader(cfg.val_dataloader)
    evaluator: Any = runner.build_evaluator(cfg.val_evaluator)
    evaluator.dataset_meta = loader.dataset.metainfo
    model.eval()
    for batch in loader:
        with torch.no_grad():
            outputs = model.val_step(batch)
        evaluator.process(data_samples=outputs, data_batch=batch)
    found = percent_metrics(evaluator.evaluate(len(loader.dataset)), 'image')
    for metric in cfg.protocol.metrics:
        value = found[metric]
        assert value is not None
        assert 0 <= value <= 100
