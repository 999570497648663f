"""Mask R-CNN and Cascade R-CNN as a graph: mmdet's parts, with numbers of boxes that are fixed.

mmdet's own code branches on how many boxes there are and shortens lists by their scores, which no
graph can record. Here every list keeps its length: what falls out is ranked last, and the results
are filled up with boxes of score 0. Boxes that are left are the same.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torchvision.ops import nms, roi_align

from moca.errors import UserError
from moca.export.graphs import Graph

CANDIDATES = 4096
"""Boxes of all classes that come before the last suppression [choice]; mmdet takes all above its
``score_thr``, of a trained detector some hundreds."""


class DetectorGraph(Graph):
    """``boxes`` ``[100, 4]``, ``scores`` ``[100]``, ``labels`` ``[100]``, and ``masks``
    ``[100, 28, 28]`` of detectors that have them.

    Boxes are in pixels of the image; masks are probabilities within their box. Rows without a box
    are the last ones, of score 0 and label -1. Takes one image, which lies in the upper left corner
    of a larger one, and beside it ``extent`` ``[2]``, int64: its height and width.

    Args:
        model: mmdet's two-stage detector.
        size: height and width of the image with what pads it.

    Raises:
        UserError: a part is of a kind that is not known here.
    """

    dynamic: ClassVar[bool] = False

    def __init__(self, model: Any, size: tuple[int, int]) -> None:
        super().__init__(model, size)
        rpn, roi = self.model.rpn_head, self.model.roi_head
        self.stages = list(roi.bbox_head) if isinstance(roi.bbox_head, nn.ModuleList) else [None]
        for test, field in ((rpn.test_cfg, 'rpn'), (roi.test_cfg, 'rcnn')):
            if test.nms.get('type', 'nms') != 'nms':
                raise UserError(
                    f'model.test_cfg.{field}.nms.type={test.nms.type!r}: ONNX has plain '
                    "suppression alone. Set it to 'nms' and test the run so."
                )
        if not rpn.use_sigmoid_cls:
            raise UserError('model.rpn_head: only scores of a sigmoid are exported.')
        self.outputs = ('boxes', 'scores', 'labels', *(['masks'] if roi.with_mask else []))
        with torch.no_grad():
            maps = self.model.extract_feat(torch.zeros(1, 3, *size))
            scores, _ = rpn(maps)
            priors = rpn.prior_generator.grid_priors([s.shape[2:] for s in scores], device='cpu')
        self.levels = len(priors)
        for number, prior in enumerate(priors):
            self.register_buffer(f'priors{number}', prior)

    def inputs(self) -> tuple[Tensor, ...]:
        """An example image, and its height and width."""
        return (*super().inputs(), torch.tensor(self.size))

    def forward(self, image: Tensor, extent: Tensor) -> tuple[Tensor, ...]:
        """Detect objects."""
        height, width = self.size
        rows = torch.arange(height)[:, None] < extent[0]
        columns = torch.arange(width)[None] < extent[1]
        x = self.normalized(image) * (rows & columns)  # mmdet pads after normalizing
        maps = self.model.extract_feat(x)
        limits = extent.flip(0).repeat(2).to(x.dtype)
        proposals = self._proposals(maps, limits)
        boxes, scores, labels = self._boxes(maps, proposals, limits)
        if not self.model.roi_head.with_mask:
            return boxes, scores, labels
        return boxes, scores, labels, self._masks(maps, boxes, labels)

    def _decoded(self, coder: Any, priors: Tensor, deltas: Tensor, limits: Tensor) -> Tensor:
        boxes = coder.decode(priors, deltas)
        return torch.minimum(boxes.clamp(min=0), limits)

    def _proposals(self, maps: Any, limits: Tensor) -> Tensor:
        """Boxes of the region proposals, ``[max_per_img, 4]``; without any, empty ones."""
        rpn = self.model.rpn_head
        test = rpn.test_cfg
        all_boxes, all_scores, all_levels = [], [], []
        for level, (scores, deltas) in enumerate(zip(*rpn(maps), strict=True)):
            scores = scores[0].permute(1, 2, 0).flatten().sigmoid()
            deltas = deltas[0].permute(1, 2, 0).reshape(-1, 4)
            priors = getattr(self, f'priors{level}')
            count = min(test.nms_pre, len(priors)) if test.nms_pre > 0 else len(priors)
            scores, best = scores.topk(count)
            boxes = self._decoded(rpn.bbox_coder, priors[best], deltas[best], limits)
            all_boxes.append(boxes)
            all_scores.append(scores)
            all_levels.append(torch.full((count,), level))
        boxes, scores = torch.cat(all_boxes), torch.cat(all_scores)
        smallest = test.get('min_bbox_size', -1)
        if smallest >= 0:
            sides = boxes[:, 2:] - boxes[:, :2]
            scores = torch.where((sides > smallest).all(1), scores, -1.0)
        best, there = best_of(
            boxes, scores, torch.cat(all_levels), test.nms.iou_threshold, test.max_per_img, 0.0
        )
        return boxes[best] * there[:, None]

    def _pooled(self, extractor: Any, maps: Any, boxes: Tensor) -> Tensor:
        """Features of boxes ``[K, 4]`` from the level of their size, ``[K, C, h, w]``.

        A box has an empty one in its place at all other levels, which costs nothing.
        """
        rois = torch.cat([boxes.new_zeros(len(boxes), 1), boxes], 1)
        layers = extractor.roi_layers
        levels = extractor.map_roi_levels(rois, len(layers))
        total: Any = 0
        for number, (layer, features) in enumerate(zip(layers, maps, strict=False)):
            here = (levels == number).to(boxes.dtype)
            pooled = roi_align(
                features,
                rois * here[:, None],
                layer.output_size,
                layer.spatial_scale,
                layer.sampling_ratio,
                layer.aligned,
            )
            total = total + pooled * here[:, None, None, None]
        return total

    def _boxes(self, maps: Any, boxes: Tensor, limits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes, scores and labels of the results."""
        roi = self.model.roi_head
        there = (boxes[:, 2:] > boxes[:, :2]).all(1)
        total: Any = 0
        for number in range(len(self.stages)):
            head = self.stages[number] or roi.bbox_head
            extractor = roi.bbox_roi_extractor
            extractor = extractor[number] if isinstance(extractor, nn.ModuleList) else extractor
            logits, deltas = head(self._pooled(extractor, maps, boxes))
            total = total + logits
            if number == len(self.stages) - 1:
                break
            if not head.reg_class_agnostic:
                first = 4 * logits[:, :-1].argmax(1)
                places = first[:, None] + torch.arange(4)
                deltas = deltas.gather(1, places)
            boxes = self._decoded(head.bbox_coder, boxes, deltas, limits) * there[:, None]
        scores = (total / len(self.stages)).softmax(1)[:, :-1]
        return self._results(boxes, scores, deltas, head, limits, there)

    def _results(
        self,
        boxes: Tensor,
        scores: Tensor,
        deltas: Tensor,
        head: Any,
        limits: Tensor,
        there: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        test = self.model.roi_head.test_cfg
        number, classes = scores.shape
        kinds = 1 if head.reg_class_agnostic else classes
        priors = boxes.repeat_interleave(kinds, 0)
        decoded = self._decoded(head.bbox_coder, priors, deltas.reshape(-1, 4), limits)
        scores = torch.where(there[:, None], scores, -1.0).flatten()
        count = min(CANDIDATES, number * classes)
        scores, best = scores.topk(count)
        labels = best % classes
        candidates = decoded[best // classes if kinds == 1 else best]
        kept, valid = best_of(
            candidates,
            torch.where(scores > test.score_thr, scores, -1.0),
            labels,
            test.nms.iou_threshold,
            test.max_per_img,
            test.score_thr,
        )
        return (
            candidates[kept] * valid[:, None],
            scores[kept] * valid,
            torch.where(valid, labels[kept], -1),
        )

    def _masks(self, maps: Any, boxes: Tensor, labels: Tensor) -> Tensor:
        """Probabilities of each box's own class, ``[K, 28, 28]``."""
        roi = self.model.roi_head
        heads, extractors = roi.mask_head, roi.mask_roi_extractor
        several = isinstance(heads, nn.ModuleList)
        total: Any = 0
        for number in range(len(heads) if several else 1):
            head = heads[number] if several else heads
            shared = not isinstance(extractors, nn.ModuleList)
            extractor = extractors if shared else extractors[number]
            probabilities = head(self._pooled(extractor, maps, boxes)).sigmoid()
            total = total + probabilities / (len(heads) if several else 1)
        if total.shape[1] == 1:
            return total[:, 0]
        places = labels.clamp(min=0)[:, None, None, None].expand(-1, 1, *total.shape[2:])
        return total.gather(1, places)[:, 0]


def best_of(
    boxes: Tensor, scores: Tensor, groups: Tensor, iou: float, count: int, above: float
) -> tuple[Tensor, Tensor]:
    """Suppress boxes of a group that lie over a better one, and take the best that are left.

    Args:
        boxes: ``[K, 4]``.
        scores: ``[K]``; those of `above` or less count as none.
        groups: ``[K]``, of levels or classes; boxes of two do not suppress each other.
        iou: above which the worse of two boxes goes.
        count: how many to take.
        above: which score a box has to exceed.

    Returns:
        Numbers of the boxes ``[count]``, best first, and whether there is one, ``[count]``.
    """
    apart = groups.to(boxes.dtype) * (boxes.max() + 1)
    kept = nms(boxes + apart[:, None], scores, iou)
    # of fixed length: filled up with the first, which does not count
    filled = torch.cat([kept, kept.new_zeros(count)])
    place = torch.arange(count)
    found = filled[place]
    return found, (place < kept.shape[0]) & (scores[found] > above)
