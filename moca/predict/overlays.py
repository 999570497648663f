"""Pictures of predictions: what a model says, laid over the image in the colors of the classes."""

from __future__ import annotations

import numpy as np
import torch
from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks

from moca import figures
from moca.depth.drawing import color_depth
from moca.detection.panoptic_drawing import color_segments
from moca.images.transforms import Pixels
from moca.predict.results import Depth, Detections, Panoptic, Result, Segmentation
from moca.predict.trained import Trained

_OPACITY = 0.45  # of masks of objects, as in `moca.figures.draw_instances`


def overlay(image: Pixels, result: Result, trained: Trained, score: float) -> Pixels | None:
    """Draw a result over its image; None of a class of the whole image.

    Args:
        image: RGB ``[H, W, 3]``.
        result: Of the image.
        trained: What predicted it.
        score: Objects from there on are drawn.
    """
    if isinstance(result, Segmentation):
        colors = np.asarray(trained.palette, np.uint8)[result.mask]
        return figures.blend(image, colors)
    if isinstance(result, Panoptic):
        labels = {segment.id: segment.label for segment in result.segments}
        count = len(trained.classes)
        return color_segments(image, result.ids, labels, count, trained.palette)
    if isinstance(result, Depth):
        # the range of the head, so that images and frames can be compared
        head = trained.cfg.model.decode_head
        lowest, highest = head.get('min_depth', 0.0), head.get('max_depth', result.meters.max())
        return color_depth(result.meters, lowest, highest)
    if isinstance(result, Detections):
        return _objects(image, result, trained, score)
    return None


def _objects(image: Pixels, found: Detections, trained: Trained, score: float) -> Pixels:
    kept = found.scores >= score
    if not kept.any():
        return image
    labels = found.labels[kept].tolist()
    colors = [tuple(int(value) for value in trained.palette[label]) for label in labels]
    drawn = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    if found.masks is not None:
        masks = torch.from_numpy(found.masks[kept])
        drawn = draw_segmentation_masks(drawn, masks, alpha=_OPACITY, colors=colors)
    names = [
        f'{found.classes[label]} {100 * value:.0f} %'
        for label, value in zip(labels, found.scores[kept].tolist(), strict=True)
    ]
    boxes = torch.from_numpy(found.boxes[kept])
    drawn = draw_bounding_boxes(drawn, boxes, names, colors, width=2)
    return np.asarray(drawn.permute(1, 2, 0), np.uint8)
