"""The loss of every prediction: matching on random points, then classes, masks and Dice.

All of it is mmdet's Mask2Former, without its pixel decoder and transformer. Constants: section 3 of
the paper and the released configs, which have Mask2Former's.
"""

from __future__ import annotations

from typing import Any

import torch
from mmdet.models.dense_heads import Mask2FormerHead
from mmdet.models.dense_heads.anchor_free_head import AnchorFreeHead
from mmdet.registry import MODELS, TASK_UTILS
from mmengine.logging import print_log
from mmengine.structures import InstanceData
from torch import Tensor

from moca.eomt.network import Predictions
from moca.errors import UserError

NUM_POINTS = 12544
"""112 x 112 points of each mask, for matching and for the loss."""

MASK_WEIGHT = DICE_WEIGHT = 5.0
CLASS_WEIGHT = 2.0
NO_OBJECT_WEIGHT = 0.1
"""Of "no object" among the classes."""


class MaskLoss(Mask2FormerHead):
    """Mask2Former's criterion for predictions that come from elsewhere.

    Args:
        num_classes: Without "no object".
        num_queries: Of the network.
        num_points: On which masks are matched and compared.

    Attributes:
        unmatched: How many objects were too many for the queries so far, in this process.
    """

    def __init__(self, num_classes: int, num_queries: int, num_points: int = NUM_POINTS) -> None:
        super(AnchorFreeHead, self).__init__()  # skips the pixel decoder of Mask2FormerHead
        self.num_classes, self.num_queries, self.num_points = num_classes, num_queries, num_points
        self.oversample_ratio, self.importance_sample_ratio = 3.0, 0.75
        self.class_weight = [1.0] * num_classes + [NO_OBJECT_WEIGHT]
        build = MODELS.build
        self.loss_cls = build(
            dict(
                type='mmdet.CrossEntropyLoss',
                use_sigmoid=False,
                loss_weight=CLASS_WEIGHT,
                reduction='mean',
                class_weight=self.class_weight,
            )
        )
        self.loss_mask = build(
            dict(
                type='mmdet.CrossEntropyLoss',
                use_sigmoid=True,
                reduction='mean',
                loss_weight=MASK_WEIGHT,
            )
        )
        self.loss_dice = build(
            dict(
                type='mmdet.DiceLoss',
                use_sigmoid=True,
                activate=True,
                reduction='mean',
                naive_dice=True,
                eps=1.0,
                loss_weight=DICE_WEIGHT,
            )
        )
        self.assigner = TASK_UTILS.build(
            dict(
                type='mmdet.HungarianAssigner',
                match_costs=[
                    dict(type='mmdet.ClassificationCost', weight=CLASS_WEIGHT),
                    dict(type='mmdet.CrossEntropyLossCost', weight=MASK_WEIGHT, use_sigmoid=True),
                    dict(type='mmdet.DiceCost', weight=DICE_WEIGHT, pred_act=True, eps=1.0),
                ],
            )
        )
        self.sampler = TASK_UTILS.build(dict(type='mmdet.MaskPseudoSampler'))
        self.unmatched = 0

    def init_weights(self) -> None:
        """Nothing: there are no weights."""

    def forward(self, found: Predictions, truth: list[InstanceData]) -> dict[str, Tensor]:
        """Compare every prediction with the truth, in fp32.

        Args:
            found: Of a batch.
            truth: For each image ``labels`` ``[n]`` and boolean ``masks`` ``[n, H, W]``; pixels of
                no mask are negatives of every mask.

        Returns:
            Three losses for each prediction, those before the last named ``d0.loss_cls``, ...

        Raises:
            UserError: A prediction is not finite, so that nothing can be matched.
        """
        for masks, classes in zip(*found, strict=True):
            if not (torch.isfinite(masks).all() and torch.isfinite(classes).all()):
                raise UserError(
                    'the predictions of the queries are not finite: training has diverged. Lower '
                    'the rate (optim_wrapper.optimizer.lr), or start from other weights.'
                )
        self._count(truth)
        metas: list[dict[str, Any]] = [{} for _ in truth]
        logits, labels = ([each.float() for each in part] for part in found)
        with torch.autocast(logits[0].device.type, enabled=False):
            return self.loss_by_feat(labels, logits, truth, metas)

    def _count(self, truth: list[InstanceData]) -> None:
        """Say when there are more objects than queries: 1, 10, 100, ... times."""
        before = self.unmatched
        self.unmatched += sum(max(len(each) - self.num_queries, 0) for each in truth)
        if len(str(self.unmatched)) > len(str(before)) or (self.unmatched and not before):
            most = max(len(each) for each in truth)
            print_log(
                f'An image has {most} objects for {self.num_queries} queries, so that the loss '
                f'leaves out those that fit worst, {self.unmatched} by now. Raise num_queries of '
                'the head.',
                'current',
                level=30,
            )

    def get_targets(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Match, and count the masks that were matched: mmdet counts one where there is none."""
        labels, weights, targets, mask_weights, _, *rest = super().get_targets(*args, **kwargs)
        matched = sum(len(each) for each in targets)
        return (labels, weights, targets, mask_weights, matched, *rest)
