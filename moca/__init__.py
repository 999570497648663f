"""moca: pre-train plain ViTs without labels and measure them on dense prediction.

Importing the package registers the backbone, the pre-training methods and what every run has in
mmengine's root registries. Importing :mod:`moca.transfer`, as the downstream configs do, registers
the parts of segmentation and detection as well, with mmseg and mmdet.
"""

from moca import ops  # noqa: I001  (first: mmcv.ops must find its operators)
from moca import backbone, checkpoints, engine, pretrain

__version__ = '0.1.0'

__all__ = ['backbone', 'checkpoints', 'engine', 'ops', 'pretrain']
