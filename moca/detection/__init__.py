"""What mmdet lacks: a simple feature pyramid and predictors that stay in full precision."""

from moca.detection.precision import Fp32Conv2d, Fp32Linear, Fp32RPNHead
from moca.detection.simple_pyramid import SimpleFeaturePyramid

__all__ = ['Fp32Conv2d', 'Fp32Linear', 'Fp32RPNHead', 'SimpleFeaturePyramid']
