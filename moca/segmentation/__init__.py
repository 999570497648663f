"""What mmseg lacks: checked labels, a linear head, mIoU over what occurs, less work and memory."""

from moca.segmentation.linear_head import LinearSegHead
from moca.segmentation.loading import LoadCheckedAnnotations
from moca.segmentation.metrics import PresentIoUMetric
from moca.segmentation.slide import LeanEncoderDecoder
from moca.segmentation.uper_head import LeanUPerHead

__all__ = [
    'LeanEncoderDecoder',
    'LeanUPerHead',
    'LinearSegHead',
    'LoadCheckedAnnotations',
    'PresentIoUMetric',
]
