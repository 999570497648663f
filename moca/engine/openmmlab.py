"""Imports mmseg's and mmdet's data sets first, without what they print of an optional package.

Whatever imports either of them imports this module before; other modules then find them imported.
"""

import contextlib
import io

with contextlib.redirect_stdout(io.StringIO()):
    import mmdet.datasets  # noqa: F401
    import mmseg.datasets  # noqa: F401
