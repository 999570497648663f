"""What no protocol has a setting for: a video by its nearest patch alone, and the mean depth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from moca.evaluation.backbones import load_backbones
from moca.evaluation.dense.davis import chosen_preset, propagated
from moca.evaluation.dense.video_data import read_davis, read_labels
from moca.evaluation.dense.video_metric import davis_metrics, score_video

ARCH = 'vit_small_patch14_dinov2'


def still_score(root: Path, checkpoint: str) -> float:
    """J&F in percent of a video that stands still, each patch labeled by its nearest one.

    That is the same patch of the frame before: the first mask stays as it was if it is whole
    patches and its borders are straight (bilinear enlargement rounds corners).
    """
    video = read_davis(root, 'val', 'DATA')[0]
    model = load_backbones([checkpoint], [ARCH])[0].model
    preset = chosen_preset('dino', 224)
    preset = replace(preset, propagation=replace(preset.propagation, top_k=1))
    truth = [read_labels(path) for path in video.masks]
    found = [truth[0], *propagated(model, video.frames, truth[0], preset)]
    return davis_metrics([score_video(truth, found)])['J&F']


def mean_depth_rmse(root: Path) -> float:
    """RMSE in meters of the training images' mean depth, as depth is measured: a mean of images."""
    train, val = (
        [_depth(path) for path in sorted((root / 'depth' / split).iterdir())]
        for split in ('train', 'val')
    )
    mean = np.concatenate([depth[depth > 0] for depth in train]).mean()
    return float(np.mean([np.sqrt(((depth[depth > 0] - mean) ** 2).mean()) for depth in val]))


def _depth(path: Path) -> NDArray[np.float64]:
    millimeters = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert millimeters is not None
    return millimeters.astype(np.float64) / 1000
