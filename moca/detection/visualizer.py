"""mmdet's drawing of predictions, which an image without any segment ends."""

from __future__ import annotations

from typing import Any

from mmdet.visualization import DetLocalVisualizer
from mmengine.registry import VISUALIZERS
from numpy.typing import NDArray


@VISUALIZERS.register_module()
class CarefulDetVisualizer(DetLocalVisualizer):
    """mmdet's visualizer, which draws an image in which no panoptic segment was found, too."""

    def _draw_panoptic_seg(
        self,
        image: NDArray[Any],
        panoptic_seg: Any,
        classes: list[str] | None,
        palette: list[Any] | None,
    ) -> NDArray[Any]:
        if (panoptic_seg.sem_seg == len(classes or ())).all():  # nothing but void
            return image
        return super()._draw_panoptic_seg(image, panoptic_seg, classes, palette)
