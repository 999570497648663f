"""The command line's changes reach every place that they concern."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

from moca.checkpoints.loading import set_checkpoint
from moca.errors import UserError
from moca.transfer.overrides import set_arch, set_data_root
from tests.configs.helpers import REPOSITORY

SEGMENTATION = REPOSITORY / 'configs/segmentation/cityscapes/linear.py'
DETECTION = REPOSITORY / 'configs/detection/coco/mask-rcnn_sfp.py'


def strings(node: object) -> list[str]:
    """Return every string of a nested config."""
    if isinstance(node, dict):
        return [s for value in node.values() for s in strings(value)]
    if isinstance(node, list | tuple):
        return [s for value in node for s in strings(value)]
    return [node] if isinstance(node, str) else []


@pytest.mark.parametrize('path', [SEGMENTATION, DETECTION], ids=lambda path: path.stem)
def test_data_root_reaches_every_path(path: Path, tmp_path: Path) -> None:
    cfg = Config.fromfile(path)
    old = cfg.data_root
    assert sum(old in text for text in strings(cfg.to_dict())) >= 4
    set_data_root(cfg, tmp_path)
    loaders = ('train_dataloader', 'val_dataloader', 'test_dataloader')
    parts = [cfg[name].to_dict() for name in (*loaders, 'val_evaluator', 'test_evaluator')]
    assert not any(old in text for text in strings(parts))
    assert all(cfg[name].dataset.data_root == str(tmp_path) for name in loaders)
    if path == DETECTION:
        annotations = f'{tmp_path}/annotations/instances_val2017.json'
        assert cfg.val_evaluator.ann_file == cfg.test_evaluator.ann_file == annotations


def test_data_root_reaches_wrapped_data_sets(tmp_path: Path) -> None:
    def leaf(root: str | None) -> dict:
        paths = dict(data_prefix=dict(img='data/old/train'), ann_file='data/old/a/train.json')
        return dict(type='CocoDataset', **paths) | (dict(data_root=root) if root else {})

    def wrap(root: str | None) -> dict:
        repeated = dict(type='RepeatDataset', times=2, dataset=leaf(root))
        return dict(type='ConcatDataset', datasets=[leaf(root), repeated])

    cfg = Config(
        dict(
            data_root='data/old/',
            train_dataloader=dict(
                dataset=dict(type='ClassBalancedDataset', oversample_thr=0.1, dataset=wrap(None))
            ),
            val_dataloader=dict(dataset=leaf('data/older')),
            val_evaluator=[dict(type='CocoMetric', ann_file='data/older/x.json')],
        )
    )
    set_data_root(cfg, tmp_path)
    concatenated = cfg.train_dataloader.dataset.dataset.datasets
    for dataset in (concatenated[0], concatenated[1]['dataset']):
        assert dataset['data_root'] == str(tmp_path)
        assert dataset['ann_file'] == f'{tmp_path}/a/train.json'
        assert dataset['data_prefix']['img'] == f'{tmp_path}/train'
    # "data/older" is no folder of "data/old"
    assert cfg.val_evaluator[0]['ann_file'] == f'{tmp_path}/x.json'
    assert cfg.val_dataloader.dataset.ann_file == f'{tmp_path}/a/train.json'


def test_data_root_has_to_exist(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='no such folder'):
        set_data_root(Config.fromfile(SEGMENTATION), tmp_path / 'absent')


@pytest.mark.parametrize(
    ('arch', 'width', 'strides'),
    [
        ('vit_small_patch14_dinov2', 384, [3.5, 7, 14, 28, 56]),
        ('vit_large_patch16', 1024, [4, 8, 16, 32, 64]),
        ('vit_tiny_patch8', 192, [2, 4, 8, 16, 32]),
    ],
)
def test_arch_changes_widths_and_strides(arch: str, width: int, strides: list[float]) -> None:
    cfg = Config.fromfile(SEGMENTATION)
    set_arch(cfg, arch)
    assert (cfg.model.backbone.arch, cfg.model.decode_head.in_channels) == (arch, width)
    cfg = Config.fromfile(DETECTION)
    set_arch(cfg, arch)
    assert cfg.model.neck.in_channels == width
    assert cfg.model.neck.out_channels == 256
    assert cfg.model.rpn_head.anchor_generator.strides == strides
    for extractor in ('bbox_roi_extractor', 'mask_roi_extractor'):
        assert cfg.model.roi_head[extractor].featmap_strides == strides[:4]
    assert cfg.model.roi_head.mask_head.in_channels == 256


def test_arch_changes_multi_level_heads() -> None:
    """UPerNet, its auxiliary head, iBOT's concatenation and Segmenter's decoder."""
    cfg = Config(
        dict(
            model=dict(
                backbone=dict(type='PlainViT', arch='vit_base_patch16', out_indices=(3, 5, 7, 11)),
                decode_head=dict(in_channels=[768] * 4, channels=768),
                auxiliary_head=[
                    dict(in_channels=768, channels=256, in_index=2),
                    dict(in_channels=[768] * 4, channels=3072),
                    dict(in_channels=768, channels=768, embed_dims=768, num_heads=12),
                ],
            )
        )
    )
    set_arch(cfg, 'vit_large_patch16')
    assert cfg.model.backbone.out_indices == (7, 11, 15, 23)
    assert cfg.model.decode_head == dict(in_channels=[1024] * 4, channels=1024)
    assert cfg.model.auxiliary_head == [
        dict(in_channels=1024, channels=256, in_index=2),
        dict(in_channels=[1024] * 4, channels=4096),
        dict(in_channels=1024, channels=1024, embed_dims=1024, num_heads=16),
    ]


def test_arch_of_small_patches_keeps_the_strides_of_the_pyramid() -> None:
    cfg = Config.fromfile(REPOSITORY / 'configs/segmentation/ade20k/upernet.py')
    set_arch(cfg, 'vit_base_patch8')
    assert cfg.model.neck.rescales == [2, 1, 0.5, 0.25]
    set_arch(cfg, 'vit_small_patch14_dinov2')  # 3.5, ... cannot be
    assert cfg.model.neck.rescales == [2, 1, 0.5, 0.25]


@pytest.mark.parametrize(
    ('arch', 'heads'),
    [
        ('vit_small_patch16', 6),
        ('vit_large_patch16', 16),
        ('vit_so150m_patch16_reg4_gap_256', 14),
        (dict(patch_size=8, embed_dim=120, depth=2, num_heads=3), 1),  # none of 64 fits twice
        (dict(patch_size=8, embed_dim=32, depth=2, num_heads=2), 1),
        (dict(patch_size=8, embed_dim=200, depth=2, num_heads=5), 2),  # 3 do not divide it
    ],
)
def test_arch_of_a_decoder_keeps_the_width_of_heads(arch: Any, heads: int) -> None:
    cfg = Config.fromfile(REPOSITORY / 'configs/segmentation/cityscapes/mask-finetune.py')
    set_arch(cfg, arch)
    assert cfg.model.decode_head.num_heads == heads


def test_rotary_positions_take_the_place_of_relative_ones() -> None:
    cfg = Config.fromfile(REPOSITORY / 'configs/detection/coco/vitdet_mask-rcnn.py')
    set_arch(cfg, 'vit_small_patch16')
    assert cfg.model.backbone.rel_pos is True
    set_arch(cfg, 'vit_small_patch16_dinov3')
    assert cfg.model.backbone.rel_pos is False
    assert cfg.model.backbone.window_size == 14


def test_arch_of_a_config_without_our_backbone() -> None:
    with pytest.raises(UserError, match=r'no model\.backbone\.arch'):
        set_arch(Config(dict(model=dict(backbone=dict(type='ResNet')))), 'vit_base_patch16')


def test_checkpoint() -> None:
    cfg = Config.fromfile(SEGMENTATION)
    set_checkpoint(cfg, 'moca.pth', 'teacher', grid=[2, 6])
    assert cfg.model.backbone.init_cfg == dict(
        type='ViTCheckpoint',
        checkpoint='moca.pth',
        branch='teacher',
        prefix=None,
        trust=False,
        grid=(2, 6),
    )
    set_checkpoint(cfg, None)
    assert cfg.model.backbone.init_cfg is None
