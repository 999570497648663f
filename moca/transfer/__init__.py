"""From a protocol's config, a checkpoint and a folder of data to a run: overrides, checks, record.

Shared by segmentation and detection, whose own parts are in `moca.segmentation` and
`moca.detection`; importing this package registers both.
"""

import contextlib
import io

# mmseg and mmdet print, when imported, which optional package they do not find
with contextlib.redirect_stdout(io.StringIO()):
    import mmdet.datasets  # noqa: F401
    import mmseg.datasets  # noqa: F401

    from moca import detection, segmentation

__all__ = ['detection', 'segmentation']
