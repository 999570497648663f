"""moca: pre-train plain ViTs without labels and measure them on dense prediction.

Importing the package registers every component in mmengine's root registries.
"""

from moca import ops  # noqa: I001  (first: mmcv.ops must find its operators)
from moca import backbone, detection, engine, evaluation, pretrain, segmentation

__version__ = '0.1.0'

__all__ = ['backbone', 'detection', 'engine', 'evaluation', 'ops', 'pretrain', 'segmentation']
