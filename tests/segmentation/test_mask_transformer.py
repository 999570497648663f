"""EoMT as a segmentor: targets, images of any shape, and the recipe's pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.datasets import ADE20KDataset
from mmseg.registry import MODELS as SEGMENTORS
from mmseg.structures import SegDataSample

from moca.engine.cli import read_config
from moca.eomt.windows import class_scores
from moca.errors import UserError
from moca.segmentation.mask_transformer import MaskTransformerSegmentor, targets
from tests.configs.helpers import REPOSITORY, write_ade20k
from tests.eomt.tiny import ARCH

CONFIG = REPOSITORY / 'configs/segmentation/ade20k/eomt.py'


def a_segmentor(**test: Any) -> MaskTransformerSegmentor:
    torch.manual_seed(0)
    return MaskTransformerSegmentor(
        backbone=dict(type='PlainViT', arch=ARCH, img_size=64),
        decode_head=dict(num_classes=3, num_queries=6, num_blocks=2),
        data_preprocessor=dict(type='mmseg.SegDataPreProcessor'),
        test_cfg={'size': 64, **test},
    ).eval()


def test_a_target_is_a_mask_of_each_class_present() -> None:
    labels = torch.tensor([[[0, 0, 2], [255, 255, 2]]])
    found = targets(labels)
    assert found.labels.tolist() == [0, 2]
    assert found.masks.int().tolist() == [[[1, 1, 0], [0, 0, 0]], [[0, 0, 1], [0, 0, 1]]]
    assert len(targets(torch.full((1, 2, 2), 255))) == 0


@pytest.mark.parametrize('windows', [1, 8])
def test_overlaps_of_windows_are_averaged(windows: int) -> None:
    model, image = a_segmentor(windows=windows), torch.randn(2, 3, 64, 100)
    with torch.no_grad():
        (first, second) = model.predict(image)
        parts = []
        for start in (0, 36):
            found = model.network(image[:, :, :, start : start + 64])
            parts.append(class_scores(found.masks[-1], found.classes[-1], (64, 64)))
    for sample, left, right in zip((first, second), *parts, strict=True):
        scores = sample.seg_logits.data
        torch.testing.assert_close(scores[:, :, :36], left[:, :, :36], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(scores[:, :, 64:], right[:, :, 28:], rtol=1e-4, atol=1e-5)
        both = (left[:, :, 36:] + right[:, :, :28]) / 2
        torch.testing.assert_close(scores[:, :, 36:64], both, rtol=1e-4, atol=1e-5)
        assert (sample.pred_sem_seg.data[0] == scores.argmax(0)).all()


def test_images_of_other_sizes_are_refused_and_shapes_may_differ_in_a_batch() -> None:
    model = a_segmentor()
    with pytest.raises(UserError, match='the short side has to be 64'):
        model.predict(torch.randn(1, 3, 60, 100))
    samples = [SegDataSample(metainfo=dict(ori_shape=s, img_shape=s, pad_shape=s))
               for s in ((64, 64), (80, 64))]  # fmt: skip
    inputs = [torch.zeros(3, 64, 64), torch.zeros(3, 80, 64)]
    with torch.no_grad():
        found = model.test_step(dict(inputs=inputs, data_samples=samples))
    assert [sample.pred_sem_seg.data.shape[1:] for sample in found] == [(64, 64), (80, 64)]


def test_fields_are_checked() -> None:
    with pytest.raises(UserError, match='takes size, in pixels, and windows'):
        a_segmentor(stride=3)
    backbone = dict(type='PlainViT', arch=ARCH, img_size=64)
    with pytest.raises(UserError, match=r'model.decode_head: needs num_classes'):
        MaskTransformerSegmentor(backbone, dict(), test_cfg=dict(size=64))


def test_padding_is_black_and_void(tmp_path: Path) -> None:
    """An image made smaller than the crop: beside it there is -mean / std, and no class."""
    cfg = read_config(CONFIG)
    pipeline = cfg.train_dataloader.dataset.pipeline
    pipeline[3].transforms[0].ratio_range = (0.5, 0.5)
    root = write_ade20k(tmp_path / 'ade')
    with DefaultScope.overwrite_default_scope('mmseg'):
        dataset = ADE20KDataset(
            data_root=str(root),
            data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
            pipeline=pipeline,
        )
    item = dataset[0]
    cfg.model.data_preprocessor.size = (512, 512)
    preprocessor = SEGMENTORS.build(cfg.model.data_preprocessor)
    batch = dict(inputs=[item['inputs']], data_samples=[item['data_samples']])
    made = preprocessor(batch, training=True)
    mean, std = (torch.tensor(cfg.model.data_preprocessor[key]) for key in ('mean', 'std'))
    image, labels = made['inputs'][0], made['data_samples'][0].gt_sem_seg.data[0]
    # 96 x 64 at half of 512 / 96: 256 x 171
    assert (labels[171:] == 255).all()
    assert (labels[:, 256:] == 255).all()
    assert (labels[:171, :256] != 255).any()
    for corner in (image[:, 300, 100], image[:, 100, 300], image[:, -1, -1]):
        torch.testing.assert_close(corner, -mean / std)
    assert isinstance(made['data_samples'][0].gt_sem_seg, PixelData)
    assert np.isfinite(image.numpy()).all()
