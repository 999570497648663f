"""What mmseg lacks: a linear head with normalised inputs, and mIoU over the classes present."""

from moca.segmentation.linear_head import LinearSegHead
from moca.segmentation.metrics import PresentIoUMetric

__all__ = ['LinearSegHead', 'PresentIoUMetric']
