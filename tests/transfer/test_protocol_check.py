"""What OpenMMLab takes from a config and then does wrong is refused, naming the field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

from moca.errors import UserError
from moca.transfer.protocol import check_protocol
from tests.configs.helpers import REPOSITORY

CONFIGS = REPOSITORY / 'configs'
UPERNET = CONFIGS / 'segmentation/ade20k/upernet.py'


@pytest.mark.parametrize(
    'path',
    [
        *(CONFIGS / 'segmentation').rglob('*.py'),
        *(CONFIGS / 'detection').rglob('*.py'),
        *(CONFIGS / 'demo' / f'{name}.py' for name in ('linear-bn', 'finetune', 'mask-rcnn')),
    ],
    ids=lambda path: '/'.join(path.parts[-2:]),
)
def test_our_protocols_pass(path: Path) -> None:
    cfg = Config.fromfile(path)
    before = with_our_reader(Config.fromfile(path).to_dict())
    check_protocol(cfg)
    check_protocol(cfg)  # once more changes nothing
    if cfg.protocol.task == 'detection':
        assert cfg.to_dict() == before
        return
    for split in ('train', 'val', 'test'):
        theirs = before[f'{split}_dataloader']['dataset']['pipeline']
        ours = cfg[f'{split}_dataloader'].dataset.pipeline
        for step, old in zip(ours, theirs, strict=True):
            if old['type'] in ('LoadAnnotations', 'LoadCheckedAnnotations'):
                old = dict(old, type='LoadCheckedAnnotations', num_classes=cfg.num_classes)
            assert dict(step) == old
    assert sum(s['type'] == 'LoadCheckedAnnotations' for s in cfg.train_dataloader.dataset.pipeline)


def with_our_reader(node: Any) -> Any:
    """A config in which `LoadReadableImage` stands for mmcv's reader of images."""
    if isinstance(node, list | tuple):
        return type(node)(map(with_our_reader, node))
    if isinstance(node, dict):
        return {key: with_our_reader(value) for key, value in node.items()}
    return 'LoadReadableImage' if node == 'LoadImageFromFile' else node


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'fp16': dict(loss_scale='dynamic')}, r'fp16 is a field of mmcv 1.*--amp'),
        ({'lr_config': dict(policy='poly')}, 'lr_config is a field of mmcv 1'),
        ({'model.backbone.type': 'MAE'}, r"backbone\.type='MAE'.*PlainViT.*one size"),
        ({'model.backbone.type': 'BEiT'}, r"backbone\.type='BEiT'"),
        ({'model.decode_head.num_classes': 149}, r'decode_head\.num_classes=149, .*=150'),
        ({'model.auxiliary_head.num_classes': 151}, r'=150, model\.auxiliary_head.*=151'),
        (
            {'model.decode_head.num_classes': 151, 'model.auxiliary_head.num_classes': 151},
            r'train_dataloader\.dataset: ADE20KDataset has 150 classes.*heads are of 151',
        ),
        (
            {'val_dataloader.dataset.metainfo': dict(classes=('wall', 'floor'))},
            r'val_dataloader\.dataset: ADE20KDataset has 2 classes',
        ),
        (
            {'train_dataloader.dataset.type': 'BaseSegDataset'},
            r'BaseSegDataset does not know its classes.*metainfo',
        ),
        ({'train_dataloader.dataset.type': 'ADEDataset'}, "has a data set 'ADEDataset'"),
        (
            {'train_dataloader.dataset.reduce_zero_label': False},
            r'reduce_zero_label=False.*ADE20KDataset 0 is no class.*has to be True',
        ),
        ({'model.decode_head.ignore_index': 0}, r'decode_head\.ignore_index=0.*ignore_ids'),
        (
            {
                'model.auxiliary_head.loss_decode.class_weight': [1.0] * 150,
                'model.auxiliary_head.loss_decode.avg_non_ignore': True,
            },
            r'auxiliary_head\.loss_decode: class_weight with avg_non_ignore=True raises',
        ),
        (
            {'model.decode_head.loss_decode.class_weight': [1.0] * 19},
            r'19 numbers in class_weight for 150 classes',
        ),
    ],
)
def test_faults_are_named(changes: dict[str, Any], message: str) -> None:
    cfg = Config.fromfile(UPERNET)
    cfg.merge_from_dict(changes)
    with pytest.raises(UserError, match=message):
        check_protocol(cfg)


def test_cityscapes_counts_from_zero() -> None:
    cfg = Config.fromfile(CONFIGS / 'segmentation/cityscapes/linear.py')
    cfg.train_dataloader.dataset.reduce_zero_label = True
    with pytest.raises(UserError, match=r'CityscapesDataset 0 is the first class'):
        check_protocol(cfg)


def test_a_part_of_the_classes_is_a_choice() -> None:
    """mmseg maps the others to 255."""
    cfg = Config.fromfile(CONFIGS / 'segmentation/cityscapes/linear.py')
    cfg.model.decode_head.num_classes = 2
    for name in ('train', 'val', 'test'):
        cfg[f'{name}_dataloader'].dataset.metainfo = dict(classes=('road', 'car'))
    check_protocol(cfg)
    assert cfg.train_dataloader.dataset.pipeline[1].num_classes == 2


def test_loading_inside_wrappers_and_branches_is_found() -> None:
    cfg = Config.fromfile(CONFIGS / 'segmentation/cityscapes/linear.py')
    inner = cfg.train_dataloader.dataset
    branches = [[dict(type='LoadAnnotations', imdecode_backend='cv2')], []]
    inner.pipeline[1] = dict(type='RandomChoice', transforms=branches)
    cfg.train_dataloader.dataset = dict(type='RepeatDataset', times=2, dataset=inner)
    check_protocol(cfg)
    step = cfg.train_dataloader.dataset.dataset.pipeline[1]['transforms'][0][0]
    assert step == dict(type='LoadCheckedAnnotations', num_classes=19, imdecode_backend='cv2')
