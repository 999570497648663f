"""run.json: metrics in percent, and labels of checkpoints."""

from __future__ import annotations

import numpy as np
import pytest

from moca.transfer.record import percent_metrics
from moca.transfer.run import arch_label, checkpoint_label


def test_detection_metrics_are_percent() -> None:
    metrics = {'coco/bbox_mAP': 0.516, 'coco/segm_mAP': 0.459, 'coco/bbox_mAP_s': -1.0, 'time': 3.0}
    assert percent_metrics(metrics, 'detection') == {
        'bbox_mAP': 51.6,
        'segm_mAP': 45.9,
        'bbox_mAP_s': None,
    }


def test_a_detector_that_detects_nothing_has_ap_0() -> None:
    # CocoMetric logs an error and returns an empty dict.
    assert percent_metrics({}, 'detection') == {'bbox_mAP': 0.0, 'segm_mAP': 0.0}


def test_segmentation_metrics_are_plain_numbers() -> None:
    metrics = {'mIoU': np.float64(48.512), 'mAcc': np.float32('nan')}
    assert percent_metrics(metrics, 'segmentation') == {'mIoU': 48.51, 'mAcc': None}


@pytest.mark.parametrize(
    ('path', 'label'),
    [
        ('/runs/moca_tiny/epoch_10.pth', 'moca_tiny/epoch_10'),
        ('/runs/moca_tiny/iter_200.pth', 'moca_tiny/iter_200'),
        ('/weights/mae_pretrain_vit_base.pth', 'mae_pretrain_vit_base'),
    ],
)
def test_checkpoint_labels(path: str, label: str) -> None:
    assert checkpoint_label(path) == label


def test_arch_labels_are_strings() -> None:
    assert arch_label('vit_base_patch16') == 'vit_base_patch16'
    assert arch_label(dict(patch_size=8, embed_dim=192, depth=6, num_heads=3)) == 'vit_192x6_patch8'
