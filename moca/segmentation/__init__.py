"""What mmseg lacks: checked labels, a linear head, mIoU over what occurs, less work and memory."""

import moca.engine.openmmlab  # noqa: F401
from moca.images.loading import LoadReadableImage
from moca.segmentation import class_colors
from moca.segmentation.averaging import AveragingTTAModel
from moca.segmentation.encoder_decoder import LeanEncoderDecoder
from moca.segmentation.heads import LeanUPerHead, LinearSegHead
from moca.segmentation.loading import LoadCheckedAnnotations
from moca.segmentation.mask_transformer import MaskTransformerSegmentor
from moca.segmentation.metrics import PresentIoUMetric

__all__ = [
    'AveragingTTAModel',
    'LeanEncoderDecoder',
    'LeanUPerHead',
    'LinearSegHead',
    'LoadCheckedAnnotations',
    'LoadReadableImage',
    'MaskTransformerSegmentor',
    'PresentIoUMetric',
]

class_colors.install()
