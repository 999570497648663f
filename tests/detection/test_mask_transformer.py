"""EoMT as a detector: its targets, and results at the images' own sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmdet.registry import DATASETS as DETECTION_SETS
from mmdet.registry import MODELS as DETECTORS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

from moca.detection.mask_transformer import MaskTransformerDetector, at_own_size, targets
from moca.engine.cli import read_config
from moca.errors import UserError
from tests.configs.helpers import REPOSITORY, write_coco
from tests.eomt.tiny import ARCH


def a_detector(**test: Any) -> MaskTransformerDetector:
    torch.manual_seed(0)
    return MaskTransformerDetector(
        backbone=dict(type='PlainViT', arch=ARCH, img_size=64),
        panoptic_head=dict(num_things_classes=2, num_stuff_classes=1, num_queries=6, num_blocks=2),
        data_preprocessor=dict(type='mmdet.DetDataPreprocessor', mean=[0.0] * 3, std=[1.0] * 3),
        test_cfg=test,
    )


def test_targets_have_pixels_and_the_size_of_the_batch() -> None:
    masks = np.zeros((3, 40, 64), np.uint8)
    masks[0, :5], masks[2, 30:, 10:] = 1, 1  # a crop has emptied the second one
    instances = InstanceData(labels=torch.tensor([1, 0, 2]), masks=BitmapMasks(masks, 40, 64))
    found = targets(instances, torch.zeros(1, 3, 64, 64))
    assert found.labels.tolist() == [1, 2]
    assert found.masks.shape == (2, 64, 64)
    assert found.masks.dtype == torch.bool
    assert found.masks.flatten(1).sum(1).tolist() == [5 * 64, 10 * 54]
    nothing = targets(
        InstanceData(labels=torch.zeros(0), masks=BitmapMasks(np.zeros((0, 8, 8)), 8, 8)),
        torch.zeros(1, 3, 8, 8),
    )
    assert nothing.masks.shape == (0, 8, 8)


def test_padding_is_cut_off_before_masks_are_enlarged() -> None:
    """An image of 50 x 100 made 32 x 64, below which there is padding to 64."""
    logits = torch.full((1, 16, 16), -5.0)
    logits[:, :8, :8] = 5.0  # the left half of the image
    about = dict(ori_shape=(50, 100), scale_factor=(0.64, 0.64))
    found = at_own_size(logits, (64, 64), about)
    assert found.shape == (1, 50, 100)
    assert (found[0, :44, :48] > 0).all()
    assert (found[0, :, 53:] < 0).all()
    whole = F.interpolate(logits[None], (64, 64), mode='bilinear')
    cut = F.interpolate(whole[..., :32, :], (50, 100), mode='bilinear')[0]
    torch.testing.assert_close(found, cut)


@pytest.mark.parametrize('panoptic', [True, False])
def test_results_are_of_the_images_own_size(panoptic: bool) -> None:
    model = a_detector(panoptic_on=panoptic, instance_on=not panoptic).eval()
    about = dict(ori_shape=(30, 60), img_shape=(64, 64), scale_factor=(64 / 60, 32 / 30))
    samples = [DetDataSample(metainfo=about) for _ in range(2)]
    with torch.no_grad():
        found = model.predict(torch.randn(2, 3, 64, 64), samples)
    for sample in found:
        if panoptic:
            assert sample.pred_panoptic_seg.sem_seg.shape == (1, 30, 60)
        else:
            assert sample.pred_instances.masks.shape[1:] == (30, 60)
            # no more than queries times classes, and things alone
            assert 0 < len(sample.pred_instances) <= 12
            assert sample.pred_instances.labels.max() < 2


def test_padding_is_black_and_of_no_mask(tmp_path: Path) -> None:
    """An image of 128 x 96 made 64 x 48: below and beside it there is -mean / std."""
    cfg = read_config(REPOSITORY / 'configs/detection/coco/eomt_instance.py')
    root = write_coco(tmp_path / 'coco')
    pipeline = cfg.train_dataloader.dataset.pipeline
    pipeline[3].transforms[0].ratio_range = (0.1, 0.1)
    with DefaultScope.overwrite_default_scope('mmdet'):
        dataset = DETECTION_SETS.build(
            {**cfg.train_dataloader.dataset, 'data_root': str(root), 'pipeline': pipeline}
        )
        item = dataset[0]
        preprocessor = DETECTORS.build(cfg.model.data_preprocessor)
    batch = dict(inputs=[item['inputs']], data_samples=[item['data_samples']])
    made = preprocessor(batch, training=True)
    mean, std = (torch.tensor(cfg.model.data_preprocessor[key]) for key in ('mean', 'std'))
    (image,) = made['inputs']
    assert image.shape == (3, 640, 640)
    for corner in (image[:, 48, 0], image[:, 0, 64], image[:, -1, -1]):
        torch.testing.assert_close(corner, -mean / std)
    assert not torch.allclose(image[:, 47, 63], -mean / std)
    masks = targets(made['data_samples'][0].gt_instances, made['inputs']).masks
    assert masks.shape == (2, 640, 640)
    assert not masks[:, 48:].any()
    assert not masks[:, :, 64:].any()
    assert masks.flatten(1).any(1).all()


def test_fields_are_checked() -> None:
    with pytest.raises(UserError, match="unknown \\['panoptic'\\]"):
        a_detector(panoptic=True)
    backbone = dict(type='PlainViT', arch=ARCH, img_size=64)
    with pytest.raises(UserError, match='needs num_things_classes or num_stuff_classes'):
        MaskTransformerDetector(backbone, dict(num_queries=3))
    with pytest.raises(UserError, match=r'model.panoptic_head.*num_querys'):
        MaskTransformerDetector(backbone, dict(num_things_classes=3, num_querys=3))
