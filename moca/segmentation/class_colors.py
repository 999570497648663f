"""Colors of classes for which a data set has none: mmseg draws them by lot, two greens for two."""

from __future__ import annotations

import functools
from typing import Any

from mmseg.datasets import BaseSegDataset

_MARK = '_tells_classes_apart'


def install() -> None:
    """Have mmseg's data sets without a palette take colors that are told apart.

    Colors go from the data set to sheets, overlays, visualizers and checkpoints. A palette of the
    config or of the data set's class stays. Doing it again changes nothing.
    """
    if getattr(BaseSegDataset, _MARK, False):
        return
    theirs = BaseSegDataset._update_palette

    @functools.wraps(theirs)
    def update_palette(self: Any) -> Any:
        if len(self._metainfo.get('palette') or ()):
            return theirs(self)
        from moca.figures import distinct_colors  # matplotlib takes a second to import

        classes = self._metainfo.get('classes') or ()
        return [[int(value) for value in color] for color in distinct_colors(len(classes))]

    BaseSegDataset._update_palette = update_palette
    setattr(BaseSegDataset, _MARK, True)
