"""What mmseg lacks: checked labels, a linear head, mIoU over what occurs, windows in batches."""

from moca.segmentation.linear_head import LinearSegHead
from moca.segmentation.loading import LoadCheckedAnnotations
from moca.segmentation.metrics import PresentIoUMetric
from moca.segmentation.slide import LeanEncoderDecoder

__all__ = ['LeanEncoderDecoder', 'LinearSegHead', 'LoadCheckedAnnotations', 'PresentIoUMetric']
