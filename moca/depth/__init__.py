"""Depth from frozen features: what mmseg's depth estimation lacks for the linear protocol."""

import moca.engine.openmmlab  # noqa: F401
from moca.depth.datasets import ListedNYUDataset
from moca.depth.estimator import CenteredDepthEstimator
from moca.depth.head import LinearDepthHead
from moca.depth.loading import LoadCheckedDepthAnnotations
from moca.depth.loss import SigLoss
from moca.depth.metrics import CheckedDepthMetric
from moca.depth.transforms import CutFrame, RandomDepthColors

__all__ = [
    'CenteredDepthEstimator',
    'CheckedDepthMetric',
    'CutFrame',
    'LinearDepthHead',
    'ListedNYUDataset',
    'LoadCheckedDepthAnnotations',
    'RandomDepthColors',
    'SigLoss',
]
