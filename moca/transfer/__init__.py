"""From a protocol's config, a checkpoint and a folder of data to a run: overrides, checks, record.

Shared by segmentation, detection and depth, whose own parts are in `moca.segmentation`,
`moca.detection` and `moca.depth`; importing this package registers all three, and
has the inferencers of both libraries take their configs.
"""

import moca.engine.openmmlab  # noqa: F401
from moca import depth, detection, segmentation
from moca.transfer import inferencers

__all__ = ['depth', 'detection', 'segmentation']

inferencers.install()
