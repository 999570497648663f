"""Faults that have cost somebody a table, each injected: it is refused, or cannot happen.

The numbers are those of the list of traps that the protocols were collected with.
"""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from moca.backbone import PlainViT
from moca.engine.distributed import replace_sync_bn
from moca.transfer.overrides import set_data_root
from moca.transfer.recipe import warn_of_batch
from tests.backbone.helpers import save, timm_vit
from tests.configs.helpers import REPOSITORY, shrink, write_cityscapes
from tools import train

PROTOCOLS = sorted((REPOSITORY / 'configs/segmentation').rglob('*.py'))
LINEAR = REPOSITORY / 'configs/segmentation/cityscapes/linear.py'
UPERNET = REPOSITORY / 'configs/segmentation/ade20k/upernet.py'
# At the sizes of the recipes a ViT of a few channels, pre-trained at 224 pixels: 14 x 14 positions.
NARROW: dict[str, Any] = dict(patch_size=16, embed_dim=32, depth=2, num_heads=2, img_size=224)

each_protocol = pytest.mark.parametrize(
    'path', PROTOCOLS, ids=lambda path: '/'.join(path.parts[-2:])
)


@pytest.fixture(scope='module')
def cityscapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cityscapes(tmp_path_factory.mktemp('data') / 'cityscapes')


@pytest.fixture(scope='module')
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(timm_vit(NARROW).state_dict(), tmp_path_factory.mktemp('weights') / 'vit.pth')


def narrow(path: Path, folder: Path, text: str = '') -> Path:
    """A config of the NARROW backbone on top of one of ours."""
    config = folder / 'config.py'
    config.write_text(
        f"_base_ = '{path}'\n"
        f'model = dict(backbone=dict(arch=dict(_delete_=True, **{NARROW})))\n'
        f'{text}'
    )
    return config


def refused(capsys: Any, config: Path, *arguments: str | Path) -> str:
    """The single line of a tools/train.py that refuses to start, and leaves nothing behind."""
    folder = config.parent / 'run'
    assert train.main([str(config), '--work-dir', str(folder), *map(str, arguments)]) == 2
    assert not folder.exists()
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ('config', 'grid', 'mode'),
    [('ade20k/linear-4layer', 32, 'bicubic'), ('cityscapes/linear', 48, 'bilinear')],
)
def test_1_positions_are_resampled_at_load(
    config: str, grid: int, mode: str, weights: Path
) -> None:
    cfg = Config.fromfile(REPOSITORY / 'configs/segmentation' / f'{config}.py').model.backbone
    cfg.update(arch=NARROW, out_indices=(-1,))
    backbone = MODELS.build(dict(cfg, init_cfg=dict(type='ViTCheckpoint', checkpoint=str(weights))))
    backbone.init_weights()
    table = torch.load(weights)['pos_embed']
    old = table[:, 1:].transpose(1, 2).reshape(1, 32, 14, 14)
    new = F.interpolate(old, (grid, grid), mode=mode, align_corners=False)
    assert backbone.pos_embed.shape == (1, 1 + grid * grid, 32)
    torch.testing.assert_close(backbone.pos_embed[:, :1].detach(), table[:, :1])
    found = backbone.pos_embed[:, 1:].detach().transpose(1, 2).reshape(1, 32, grid, grid)
    torch.testing.assert_close(found, new, rtol=1e-4, atol=1e-5)


def test_2_keys_that_do_not_match_are_refused(
    cityscapes: Path, weights: Path, tmp_path: Path, capsys: Any
) -> None:
    state = torch.load(weights)
    config = narrow(LINEAR, tmp_path)
    absent = 'does not fit the backbone'
    for name, change, said in (
        ('renamed', lambda key: key.replace('attn.qkv', 'attention.qkv'), 'its queries, keys'),
        ('of the mlp', lambda key: key.replace('mlp.fc1', 'mlp.first'), absent),
        ('deeper', lambda key: key.replace('blocks.1.', 'blocks.2.'), absent),
    ):
        path = save({change(key): v for key, v in state.items()}, tmp_path / f'{name}.pth')
        error = refused(capsys, config, '--data-root', cityscapes, '--checkpoint', path)
        assert f'{path}: {said}' in error
        if said is absent:
            assert 'In the backbone but not in the file: blocks.' in error


@each_protocol
def test_3_frozen_is_more_than_without_gradients(path: Path) -> None:
    cfg = Config.fromfile(path).model.backbone
    cfg.update(arch=NARROW, out_indices=(0, 1), img_size=32, drop_path_rate=0.9)
    images = torch.randn(64, 3, 32, 32)  # so many that not all paths of one call are dropped
    stored: list[torch.Tensor] = []

    def outputs(**options: Any) -> tuple[torch.Tensor, torch.Tensor]:
        backbone = MODELS.build({**cfg, **options})
        if options:
            backbone.requires_grad_(False)
        backbone.train()
        stored.clear()
        with torch.autograd.graph.saved_tensors_hooks(stored.append, lambda tensor: tensor):
            return backbone(images)[-1], backbone(images)[-1]

    first, second = outputs(frozen=False)  # the trap: drop-path stays on
    assert not torch.equal(first, second)
    first, second = outputs()
    assert torch.equal(first, second) == cfg.frozen == (not stored) == (not first.requires_grad)
    assert cfg.frozen == ('linear' in path.stem and 'finetune' not in path.stem)


def test_4_layer_decay_asks_the_backbone(cityscapes: Path, tmp_path: Path, capsys: Any) -> None:
    cfg = shrink(Config.fromfile(UPERNET))
    init_default_scope('mmseg')
    model = MODELS.build(cfg.model)
    options = dict(type='LearningRateDecayOptimizerConstructor', paramwise_cfg={})
    theirs = dict(
        cfg.optim_wrapper,
        constructor=options['type'],
        paramwise_cfg=dict(num_layers=4, decay_rate=0.65, decay_type='layer_wise'),
    )
    with pytest.raises(NotImplementedError):  # the trap
        build_optim_wrapper(model, theirs)
    text = "optim_wrapper = dict(constructor='LearningRateDecayOptimizerConstructor')\n"
    error = refused(capsys, narrow(LINEAR, tmp_path, text), '--data-root', cityscapes)
    assert 'LayerDepthOptimWrapperConstructor' in error
    # positions and class token are decayed; tests/engine/test_layer_decay.py has the whole rule
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    decays = {name: g['weight_decay'] for g in groups for name in g['param_names']}
    assert decays['backbone.pos_embed'] == decays['backbone.cls_token'] == 0.05


def test_5_dead_mixed_precision_is_refused(cityscapes: Path, tmp_path: Path, capsys: Any) -> None:
    config = narrow(LINEAR, tmp_path, "fp16 = dict(loss_scale='dynamic')\n")
    assert 'mixed precision is --amp' in refused(capsys, config, '--data-root', cityscapes)


def test_6_the_network_is_the_pretrained_one(cityscapes: Path, tmp_path: Path, capsys: Any) -> None:
    text = "model = dict(backbone=dict(_delete_=True, type='MAE', img_size=768))\n"
    (tmp_path / 'config.py').write_text(f"_base_ = '{LINEAR}'\n{text}")
    error = refused(capsys, tmp_path / 'config.py', '--data-root', cityscapes)
    assert "type='MAE'" in error
    backbone = PlainViT(NARROW, img_size=96)
    assert backbone.state_dict().keys() == timm_vit(NARROW).state_dict().keys()
    for size in ((96, 96), (64, 128), (50, 70)):
        grid = tuple(math.ceil(side / 16) for side in size)
        assert backbone(torch.zeros(1, 3, *size))[0].shape[2:] == grid


@pytest.mark.parametrize(
    'arch', ['vit_base_patch16', 'vit_large_patch16', 'vit_small_patch14_dinov2']
)
def test_7_layer_norm_keeps_the_eps_of_pretraining(arch: str) -> None:
    with torch.device('meta'):
        norms = [m for m in PlainViT(arch).modules() if isinstance(m, nn.LayerNorm)]
    assert {norm.eps for norm in norms} == {1e-6}
    head = Config.fromfile(LINEAR.with_name('mask-finetune.py')).model.decode_head
    init_default_scope('mmseg')
    decoder = [m for m in MODELS.build(head).modules() if isinstance(m, nn.LayerNorm)]
    assert {norm.eps for norm in decoder} == {1e-5}  # Segmenter's decoder
    assert nn.LayerNorm(8).eps == 1e-5  # what mmcv's norm_cfg would have given the backbone


@each_protocol
def test_8_no_sync_bn_is_left_where_it_would_raise(path: Path) -> None:
    def layers(cfg: Config) -> int:
        model = MODELS.build(cfg.model)
        return sum(isinstance(m, nn.SyncBatchNorm) for m in model.modules())

    cfg = shrink(Config.fromfile(path))
    init_default_scope('mmseg')
    assert bool(layers(cfg)) == ('SyncBN' in str(cfg.model))
    replace_sync_bn(cfg)
    assert layers(cfg) == 0


def test_9_labels_that_are_no_train_ids_are_refused(
    tmp_path: Path, weights: Path, capsys: Any
) -> None:
    root = write_cityscapes(tmp_path / 'data')
    for label in (root / 'gtFine').rglob('*_labelTrainIds.png'):
        label.rename(str(label).replace('labelTrainIds', 'labelIds'))
    error = refused(capsys, narrow(LINEAR, tmp_path), '--data-root', root)
    assert 'have to be converted to the 19 training classes: tools/prepare_data.py' in error
    text = (
        'loss = dict(class_weight=[1.0] * 19, avg_non_ignore=True)\n'
        'model = dict(backbone=dict(img_size=32), decode_head=dict(loss_decode=loss))\n'
    )
    config = tmp_path / 'weighted.py'
    config.write_text(f"_base_ = '{LINEAR}'\n{text}")
    assert 'class_weight with avg_non_ignore=True' in refused(capsys, config, '--data-root', root)


@each_protocol
def test_10_classes_that_do_not_occur_do_not_count(path: Path) -> None:
    """tests/segmentation/test_metrics.py shows by counting that this metric leaves them out."""
    cfg = Config.fromfile(path)
    assert cfg.val_evaluator.type == cfg.test_evaluator.type == 'PresentIoUMetric'


@each_protocol
def test_11_data_root_reaches_every_data_set(path: Path, tmp_path: Path, capsys: Any) -> None:
    cfg = Config.fromfile(path)
    old = cfg.data_root
    cfg.data_root = '/elsewhere'  # the trap: nothing moves
    assert cfg.train_dataloader.dataset.data_root == old
    cfg.data_root = old
    set_data_root(cfg, tmp_path)
    loaders = [cfg[f'{split}_dataloader'].to_dict() for split in ('train', 'val', 'test')]
    assert old not in str(loaders)
    assert all(loader['dataset']['data_root'] == str(tmp_path) for loader in loaders)
    assert train.main([str(path), '--cfg-options', f'data_root={tmp_path}']) == 2
    assert '--data-root' in capsys.readouterr().err


@each_protocol
def test_12_a_batch_of_another_size_is_warned_of(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts: list[str] = []
    monkeypatch.setattr('moca.transfer.recipe.print_log', lambda text, *_, **__: texts.append(text))
    cfg = Config.fromfile(path)
    warn_of_batch(SimpleNamespace(cfg=cfg, world_size=1, logger=None))
    assert not texts  # one process holds the recipe's batch
    recipe = cfg.train_dataloader.batch_size
    warn_of_batch(SimpleNamespace(cfg=cfg, world_size=8, logger=None))
    assert f"The batch is {8 * recipe} and the recipe's is {recipe}" in texts[0]
    assert 'auto-scale-lr' in texts[0]
