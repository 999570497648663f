"""moca: pre-train plain ViTs without labels and measure them on dense prediction.

Importing the package registers every component in mmengine's root registries.
"""

import contextlib
import io

# mmseg and mmdet print, when imported, which optional package they do not find
with contextlib.redirect_stdout(io.StringIO()):
    from moca import ops  # noqa: I001  (first: mmcv.ops must find its operators)
    from moca import backbone, checkpoints, detection, engine, pretrain, segmentation

__version__ = '0.1.0'

__all__ = ['backbone', 'checkpoints', 'detection', 'engine', 'ops', 'pretrain', 'segmentation']
