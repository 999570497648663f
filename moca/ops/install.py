"""Makes `mmcv._ext` importable where the compiled module is absent."""

import sys
import warnings
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

MODULE = 'mmcv._ext'
SOURCE = Path(__file__).with_name('mmcv_ext.py')


class StandInFinder(MetaPathFinder):
    """Finds `mmcv._ext` in `mmcv_ext.py`.

    Python asks the finders of `sys.meta_path` in order, and this one is last: a compiled module in
    mmcv's folder is found before it. What it gives is an ordinary module, with a spec and a source
    file, so that `find_spec`, `inspect` and pickle treat it as any other.
    """

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Return the stand-in's spec for `mmcv._ext`, None for any other module."""
        return spec_from_file_location(MODULE, SOURCE) if fullname == MODULE else None


def install() -> None:
    """Register the stand-ins; calling it again changes nothing.

    Warns if mmseg's models were imported first: some of their heads catch the failing import of
    `mmcv.ops` and go on without its operators, which nothing can repair afterwards.
    """
    if any(isinstance(finder, StandInFinder) for finder in sys.meta_path):
        return
    sys.meta_path.append(StandInFinder())
    if 'mmseg.models' in sys.modules and 'mmcv.ops' not in sys.modules:
        warnings.warn(
            'mmseg.models was imported before moca, and has taken mmcv to be without operators; '
            'heads such as PointHead will fail. Import moca first.',
            stacklevel=2,
        )
