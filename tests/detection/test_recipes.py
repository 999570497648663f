"""The COCO recipes against the numbers of their sources."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from moca.data.config_datasets import nested_dicts
from moca.detection import HalfPrecisionGradients
from moca.engine.distributed import replace_sync_bn
from moca.errors import UserError
from moca.results.published import published_results
from moca.transfer.overrides import set_arch
from moca.transfer.recipe import set_epochs, warn_of_schedule
from moca.transfer.run import prepare_training
from tests.configs.helpers import REPOSITORY, TINY_ARCH, shrink, train_args, write_coco

COCO = REPOSITORY / 'configs/detection/coco'
ONE_X = ('mask-rcnn_1x', 'mask-rcnn_1x_frozen', 'cascade-mask-rcnn_1x')
VITDET = ('vitdet_mask-rcnn', 'vitdet_cascade-mask-rcnn')
NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase)


def read(name: str) -> Config:
    return Config.fromfile(COCO / f'{name}.py')


def milestones(cfg: Config) -> list[float]:
    """Shares of the run after which the learning rate falls."""
    return [step / cfg.train_cfg.max_iters for step in cfg.param_scheduler[1].milestones]


@pytest.mark.parametrize(
    ('name', 'batch', 'steps'),
    [
        ('mask-rcnn_1x', 32, (9, 11)),
        ('mask-rcnn_1x_frozen', 32, (9, 11)),
        ('cascade-mask-rcnn_1x', 16, (8, 11)),
    ],
)
def test_twelve_epochs(name: str, batch: int, steps: tuple[int, int]) -> None:
    cfg = read(name)
    assert cfg.auto_scale_lr.base_batch_size == batch
    # train2017 has 117,266 images with objects; a last, smaller batch counts
    assert cfg.train_cfg.max_iters == 12 * -(-117_266 // batch)
    assert milestones(cfg) == pytest.approx([step / 12 for step in steps])
    assert cfg.param_scheduler[0].end == 500


@pytest.mark.parametrize('name', VITDET)
@pytest.mark.parametrize('epochs', [12, 25, 50, 100])
def test_epochs_of_vitdet(name: str, epochs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = read(name)
    title, published = cfg.protocol.name, cfg.protocol.published
    set_epochs(cfg, epochs)
    # 100 ep = 184375 iters * 64 images/iter / 118000 images/ep
    assert cfg.train_cfg.max_iters == pytest.approx(epochs * 118_000 / 64, abs=1)
    assert milestones(cfg) == pytest.approx([8 / 9, 26 / 27], abs=1e-4)
    assert cfg.param_scheduler[0].end == pytest.approx(250 * epochs / 100, abs=1)
    logged: list[str] = []
    monkeypatch.setattr(
        'moca.transfer.recipe.print_log', lambda text, *_, **__: logged.append(text)
    )
    warn_of_schedule(SimpleNamespace(cfg=cfg, logger=None))  # type: ignore[arg-type]
    assert not logged
    if epochs == 100:
        assert (cfg.protocol.name, cfg.protocol.published) == (title, published)
    else:  # no row of a leaderboard mixes lengths
        assert (cfg.protocol.name, cfg.protocol.published) == (f'{title}_{epochs}ep', None)


@pytest.mark.parametrize(
    ('name', 'scores'), [('eomt_panoptic', {46.7, 51.6}), ('eomt_panoptic_dinov3', {47.2, 53.1})]
)
def test_a_published_length_stands_beside_its_own_results(name: str, scores: set[float]) -> None:
    # model_zoo/dinov2.md and dinov3.md of tue-mps/eomt: ViT-S and B of 24 epochs
    cfg = read(name)
    set_epochs(cfg, 24)
    results = published_results()['results']
    assert {r['value'] for r in results if r['task'] == cfg.protocol.published} == scores
    assert cfg.protocol.published in published_results()['images']
    cfg = read(name)
    set_epochs(cfg, 6)
    assert cfg.protocol.published is None


def test_epochs_of_the_command_line(tmp_path: Path) -> None:
    data = write_coco(tmp_path / 'coco')
    config = COCO / 'vitdet_mask-rcnn.py'
    arguments: list[Any] = ['--data-root', data, '--epochs', '25']
    cfg, record = prepare_training(train_args(config, *arguments))
    assert record['protocol'] == 'coco_vitdet_maskrcnn_25ep'
    assert 'coco_vitdet_maskrcnn_25ep' in cfg.work_dir
    assert cfg.train_cfg.max_iters == 46_094
    arguments += ['--cfg-options', 'train_cfg.val_interval=77']
    cfg, _ = prepare_training(train_args(config, *arguments))
    assert (cfg.train_cfg.max_iters, cfg.train_cfg.val_interval) == (46_094, 77)


@pytest.mark.parametrize('name', [*ONE_X, 'mask-rcnn_sfp'])
def test_epochs_where_the_recipe_names_none(name: str) -> None:
    with pytest.raises(UserError, match=rf'--epochs 25: .*{name}\.py has no protocol\.epochs'):
        set_epochs(read(name), 25)


@pytest.mark.parametrize('name', VITDET)
def test_layer_decay_of_vitdet(name: str) -> None:
    """get_vit_lr_decay_rate of detectron2, of every parameter; no decay of norms and positions."""
    cfg = shrink(read(name))
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    found = {
        parameter_name: (group['lr'], group['weight_decay'])
        for group in wrapper.optimizer.param_groups
        for parameter_name in group['param_names']
    }
    depth = TINY_ARCH['depth']
    trained = {key: value for key, value in model.named_parameters() if value.requires_grad}
    assert set(found) == set(trained)
    assert any('rel_pos' in key for key in trained)
    for key in trained:
        layer = depth + 1
        if key.startswith('backbone.pos_embed') or '.patch_embed' in key:
            layer = 0
        elif '.blocks.' in key:
            layer = int(key[key.find('.blocks.') :].split('.')[2]) + 1
        owner = model.get_submodule(key.rpartition('.')[0])
        norm = isinstance(owner, NORMS) and type(owner).__name__ != 'LayerNorm2d'
        decays = not norm and not key.endswith('pos_embed')
        rate = 1e-4 * 0.7 ** (depth + 1 - layer)
        assert found[key] == pytest.approx((rate, 0.1 if decays else 0.0)), key


@pytest.mark.parametrize(
    ('name', 'agnostic', 'decoded', 'loss', 'norm'),
    [
        ('cascade-mask-rcnn_1x', False, True, dict(type='GIoULoss', loss_weight=10.0), 'SyncBN'),
        (
            'vitdet_cascade-mask-rcnn',
            True,
            False,
            dict(type='L1Loss', loss_weight=1.0),
            'LayerNorm2d',
        ),
    ],
)
def test_stages(name: str, agnostic: bool, decoded: bool, loss: dict, norm: str) -> None:
    cfg = shrink(read(name))
    stages = [stage.assigner for stage in cfg.model.train_cfg.rcnn]
    assert [stage.pos_iou_thr for stage in stages] == [0.5, 0.6, 0.7]
    assert all(stage.pos_iou_thr == stage.neg_iou_thr == stage.min_pos_iou for stage in stages)
    for head in cfg.model.roi_head.bbox_head:
        assert head.loss_bbox == loss
        assert head.norm_cfg.type == norm
        assert head.get('reg_decoded_bbox', False) == decoded
    init_default_scope(cfg.default_scope)
    heads = MODELS.build(cfg.model).roi_head.bbox_head
    assert [len(head.shared_convs) for head in heads] == [4, 4, 4]
    assert {head.fc_reg.out_features for head in heads} == {4 if agnostic else 4 * 80}
    # detectron2's weights of the box transform, which are one over mmdet's deviations
    weights = [1 / head.bbox_coder.stds[0] for head in heads]
    assert weights == pytest.approx([10, 20, 30], rel=0.02)


def test_windows_of_vitdet_and_of_a_larger_vit() -> None:
    cfg = read('vitdet_mask-rcnn')
    # ViTDet's window_block_indexes are the others
    blocks = set(range(12)) - {0, 1, 3, 4, 6, 7, 9, 10}
    assert set(cfg.model.backbone.global_blocks) == blocks
    set_arch(cfg, 'vit_large_patch16')
    assert cfg.model.backbone.global_blocks == (5, 11, 17, 23)


def test_strides_stay_with_patches_of_8() -> None:
    cfg = read('mask-rcnn_1x')
    set_arch(cfg, 'vit_base_patch8')
    assert cfg.model.neck.rescales == [2, 1, 0.5, 0.25]
    assert cfg.model.rpn_head.anchor_generator.strides == [4, 8, 16, 32, 64]
    assert cfg.model.roi_head.bbox_roi_extractor.featmap_strides == [4, 8, 16, 32]
    set_arch(cfg, 'vit_small_patch14_dinov2')  # maps of 7, 14, ... pixels at 2, 1, ...
    assert cfg.model.neck.embed_dim == 384
    assert cfg.model.rpn_head.anchor_generator.strides == [7, 14, 28, 56, 112]


@pytest.mark.parametrize('name', ONE_X)
def test_without_sync_bn(name: str) -> None:
    cfg = read(name)
    stages = 3 if 'cascade' in name else 1
    assert replace_sync_bn(cfg) == 1 + stages
    assert not any(node.get('type') == 'SyncBN' for node in nested_dicts(cfg.model))


@pytest.mark.parametrize(
    ('scaler', 'compressed'),
    [
        (torch.amp.GradScaler('cpu', enabled=True), True),
        (torch.amp.GradScaler('cpu', enabled=False), False),  # bfloat16
        (None, False),
    ],
)
def test_gradients_are_compressed_where_the_loss_is_scaled(
    tmp_path: Path, scaler: Any, compressed: bool
) -> None:
    def gradient(model: torch.nn.Module, weight: torch.Tensor) -> torch.Tensor:
        wrapper = SimpleNamespace(scaler=scaler) if scaler else SimpleNamespace()
        logger = SimpleNamespace(info=lambda text: None)
        runner = SimpleNamespace(model=model, optim_wrapper=wrapper, logger=logger)
        HalfPrecisionGradients().before_train(runner)
        model(x).sum().backward()
        assert weight.grad is not None
        return weight.grad[0]

    x = torch.randn(4, 3)
    exact = x.sum(0)
    single = torch.nn.Linear(3, 2)
    torch.testing.assert_close(gradient(single, single.weight), exact, rtol=1e-6, atol=0)
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{tmp_path / "store"}', rank=0, world_size=1
    )
    try:
        shared = torch.nn.Linear(3, 2)
        found = gradient(DistributedDataParallel(shared), shared.weight)
        wanted = exact.half().float() if compressed else exact
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=0)
        assert not torch.equal(exact.half().float(), exact)
    finally:
        torch.distributed.destroy_process_group()
