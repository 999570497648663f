"""A whole detector on the stand-ins: mmdet's Mask R-CNN trains and predicts."""

from pathlib import Path

import mmdet.models
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

CONFIG = Path(mmdet.__file__).parent / '.mim/configs/_base_/models/mask-rcnn_r50_fpn.py'
DEVICES = ['cpu', pytest.param('cuda', marks=pytest.mark.gpu)]


def make_mask_rcnn() -> torch.nn.Module:
    """mmdet's own model config with the narrowest widths it allows."""
    cfg = Config.fromfile(CONFIG).model
    cfg.backbone.update(depth=18, base_channels=8, init_cfg=None)
    cfg.neck.update(in_channels=[8, 16, 32, 64], out_channels=16)
    cfg.rpn_head.update(in_channels=16, feat_channels=16)
    cfg.roi_head.bbox_roi_extractor.out_channels = 16
    cfg.roi_head.mask_roi_extractor.out_channels = 16
    cfg.roi_head.bbox_head.update(in_channels=16, fc_out_channels=32, num_classes=3)
    cfg.roi_head.mask_head.update(in_channels=16, conv_out_channels=8, num_classes=3)
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(cfg)


def make_sample(size: int) -> DetDataSample:
    boxes = torch.tensor([[8.0, 8, 40, 56], [50, 20, 90, 60]])
    masks = torch.zeros(2, size, size, dtype=torch.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
        mask[y1:y2, x1:x2] = 1
    shape = (size, size)
    sample = DetDataSample(
        metainfo=dict(img_shape=shape, ori_shape=shape, pad_shape=shape, scale_factor=(1.0, 1.0))
    )
    sample.gt_instances = InstanceData(
        bboxes=boxes,
        labels=torch.tensor([0, 2]),
        masks=BitmapMasks(masks.numpy(), size, size),
    )
    return sample


@pytest.mark.parametrize('device', DEVICES)
def test_mask_rcnn(device: str) -> None:
    torch.manual_seed(0)
    model = make_mask_rcnn().to(device)
    data = dict(inputs=[torch.randint(0, 255, (3, 96, 96))], data_samples=[make_sample(96)])

    model.train()
    batch = model.data_preprocessor(data, training=True)
    losses = model.loss(batch['inputs'], batch['data_samples'])
    # The RoI heads' losses alone: they reach the backbone only through RoIAlign's backward.
    total = losses['loss_cls'] + losses['loss_bbox'] + losses['loss_mask']
    total.backward()
    assert torch.isfinite(total)
    assert model.backbone.layer4[0].conv1.weight.grad.abs().max() > 0

    model.eval()
    with torch.no_grad():
        batch = model.data_preprocessor(data, training=False)
        (prediction,) = model.predict(batch['inputs'], batch['data_samples'])
    instances = prediction.pred_instances
    assert 0 < len(instances.bboxes) <= 100  # max_per_img, after NMS
    assert instances.masks.shape[1:] == (96, 96)
    assert len(instances.masks) == len(instances.bboxes) == len(instances.scores)
