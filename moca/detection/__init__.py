"""What mmdet lacks: pyramids of a plain ViT, predictors in full precision, careful loading.

Importing this package has mmdet read annotation files by :mod:`moca.detection.annotation_file`.
"""

import moca.engine.openmmlab  # noqa: F401
from moca.detection.averaging import BoxTTAModel
from moca.detection.coco_api import NormalizedCoco, install
from moca.detection.coco_metric import QuickCocoMetric
from moca.detection.gradients import HalfPrecisionGradients
from moca.detection.loading import LoadReadableImage
from moca.detection.mask_transformer import MaskTransformerDetector
from moca.detection.panoptic_dataset import LoadPanopticMasks, PanopticDataset
from moca.detection.panoptic_quality import PanopticQuality
from moca.detection.precision import Fp32Conv2d, Fp32Linear, Fp32RPNHead
from moca.detection.pyramids import RescaledFPN, SimpleFeaturePyramid
from moca.detection.visualizer import CarefulDetVisualizer

__all__ = [
    'BoxTTAModel',
    'CarefulDetVisualizer',
    'Fp32Conv2d',
    'Fp32Linear',
    'Fp32RPNHead',
    'HalfPrecisionGradients',
    'LoadPanopticMasks',
    'LoadReadableImage',
    'MaskTransformerDetector',
    'NormalizedCoco',
    'PanopticDataset',
    'PanopticQuality',
    'QuickCocoMetric',
    'RescaledFPN',
    'SimpleFeaturePyramid',
]

install()
