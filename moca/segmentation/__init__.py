"""What mmseg lacks: checked labels, a linear head with normalised inputs, mIoU over what occurs."""

from moca.segmentation.linear_head import LinearSegHead
from moca.segmentation.loading import LoadCheckedAnnotations
from moca.segmentation.metrics import PresentIoUMetric

__all__ = ['LinearSegHead', 'LoadCheckedAnnotations', 'PresentIoUMetric']
