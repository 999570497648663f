"""A look at downstream data before training: what a config names, what its files hold."""

import contextlib
import io

# both print, when imported, which optional package they do not find
with contextlib.redirect_stdout(io.StringIO()):
    import mmdet.datasets  # noqa: F401
    import mmseg.datasets  # noqa: F401
